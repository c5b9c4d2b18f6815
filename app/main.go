// Command app is a payment service that shows what correct lifecycle code looks like, and the workload that
// proves it: no stop, soft or hard, loses money.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/drain-agent/drain-agent/app/internal/telemetry"
)

type cli struct {
	Serve     serveCmd     `cmd:"" default:"withargs" help:"Serve (the default)."`
	Client    clientCmd    `cmd:"" help:"Send traffic, then check that the ledger has every acknowledged payment exactly once."`
	Reconcile reconcileCmd `cmd:"" help:"Look through the books once, repair what is provable."`
	Backup    backupCmd    `cmd:"" help:"Write a consistent copy of a SQLite store while it is in use."`
	Restore   restoreCmd   `cmd:"" help:"Put a copy in the place of a SQLite store that nobody uses, and print the recovery point."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process around it: 0 done, 1 failed or a wrong flag.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	log := slog.New(telemetry.LogHandler{Handler: slog.NewJSONHandler(stderr, nil)})
	parser, err := kong.New(&c, kong.Name("app"), kong.Writers(stdout, stderr),
		kong.Description("A payment service that starts, serves and stops as it should."),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.BindTo(stdout, (*io.Writer)(nil)),
		kong.Bind(log, time.Now()))
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "app:", err)
		return 1
	}
	parsed, err := parser.Parse(args)
	if err == nil {
		err = parsed.Run()
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "app:", err)
		return 1
	}
	return 0
}
