// Command load sends requests at a fixed rate, never twice, and says what became of them.
//
//	go run ./scripts/load --target 127.0.0.1:8080 --for 30s --rate 200 --slow 300
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

type flags struct {
	Target     string                      `required:"" placeholder:"HOST:PORT" help:"Where to send."`
	For        time.Duration               `default:"30s" help:"How long to send; Ctrl-C ends it earlier."`
	Rate       float64                     `default:"200" help:"Requests per second, besides those of slow connections."`
	Clients    map[openloop.Client]float64 `default:"h1-fresh=0.3;h1-kept=0.3;h2=0.2;grpc=0.2" help:"Share of each kind of client."`
	Slow       int                         `default:"0" help:"Kept-alive connections that are each used now and then."`
	SlowEvery  time.Duration               `default:"10s" help:"Mean time between two uses of a slow connection."`
	SlowRandom bool                        `help:"Exponential times between uses; else uniform within 20 %."`
	OwnSource  bool                        `help:"Each connection from a loopback address of its own (targets on loopback)."`
	Path       string                      `default:"/work?ms=%d" help:"Of HTTP requests; %d takes the milliseconds of work."`
	Seed       uint64                      `default:"1" help:"Equal seeds send the same requests."`
	JSON       string                      `type:"path" placeholder:"FILE" help:"Also write the report there, with every failure."`
}

func main() {
	var f flags
	kong.Parse(&f, kong.Name("load"), kong.Description("An open-loop load generator that never sends a request twice."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) error {
	plan := openloop.DefaultPlan(f.Target)
	plan.Rate, plan.Clients, plan.Path, plan.Seed = f.Rate, f.Clients, f.Path, f.Seed
	plan.Slow, plan.SlowEvery, plan.SlowRandom, plan.OwnSource = f.Slow, f.SlowEvery, f.SlowRandom, f.OwnSource
	// Requests under way are waited for also after Ctrl-C: only sending ends.
	g, err := openloop.Start(context.WithoutCancel(ctx), plan)
	if err != nil {
		return err
	}
	watch(ctx, g, f.For)
	report := g.Stop()
	report.Write(os.Stdout)
	if f.JSON != "" {
		if err := writeJSON(f.JSON, report); err != nil {
			return err
		}
	}
	if report.Failed > 0 {
		return errors.New("some requests failed")
	}
	return nil
}

// watch prints a line of progress every second until the time is over or ctx ends.
func watch(ctx context.Context, g *openloop.Generator, length time.Duration) {
	over := time.After(length)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-over:
			return
		case <-tick.C:
			s := g.Snapshot()
			fmt.Fprintf(os.Stderr, "%3.0f s: %d sent, %d under way, %d failed\n", time.Since(began).Seconds(), s.Sent, s.UnderWay, s.Failed)
		}
	}
}

func writeJSON(path string, report openloop.Report) error {
	b, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
