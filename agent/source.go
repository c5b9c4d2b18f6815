package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/traffic"
)

type sourceCmd struct {
	Spec     string        `arg:"" help:"What --app-source would be: prometheus:URL#SELECTOR, json:URL#/pointer, text:URL#regexp, preset:SERVER@URL, file:PATH or socket:PORT."`
	AuthFile []string      `env:"-" sep:"none" help:"What --app-auth-file would be, without the name. Repeatable." placeholder:"/run/secrets/metrics/token"`
	Watch    bool          `short:"w" env:"-" help:"Read again and again; a line for each change."`
	Every    time.Duration `env:"-" default:"200ms" help:"How often to read with --watch."`
	Timeout  time.Duration `default:"5s" help:"How long one reading may take."`
}

// Run reads the source as a draining agent would, on this machine's or pod's network.
func (s *sourceCmd) Run(out output) error {
	source, err := traffic.ParseSource(s.Spec)
	if err != nil {
		return err
	}
	if len(s.AuthFile) > 0 {
		auth, err := traffic.NewAuth(s.AuthFile...)
		if err != nil {
			return err
		}
		source.SetAuth(auth)
	}
	defer source.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if s.Watch {
		return s.watch(ctx, source, out)
	}
	line, err := s.read(ctx, source)
	if err != nil {
		return fmt.Errorf("unknown, a drain would wait for its deadline: %w", err)
	}
	_, err = fmt.Fprintln(out.stdout, line)
	return err
}

// read says what one reading gives: "3 in flight, read in 2ms".
func (s *sourceCmd) read(ctx context.Context, source *traffic.Source) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	began := time.Now()
	n, err := source.Read(ctx)
	if err != nil {
		return "", err
	}
	if !n.Known {
		return "nothing is read", nil
	}
	classes := source.Classes()
	var parts []string
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		parts = append(parts, fmt.Sprintf("%s %d", class, classes[class]))
	}
	which := ""
	if len(parts) > 0 {
		which = ": " + strings.Join(parts, ", ")
	}
	return fmt.Sprintf("%d in flight%s (read in %v)", n.N, which, time.Since(began).Round(100*time.Microsecond)), nil
}

func (s *sourceCmd) watch(ctx context.Context, source *traffic.Source, out output) error {
	if err := source.Open(); err != nil {
		fmt.Fprintf(out.stderr, "drain-agent: %v\n", err)
	}
	tick := time.NewTicker(max(s.Every, time.Millisecond))
	defer tick.Stop()
	last := ""
	for ctx.Err() == nil {
		line, err := s.read(ctx, source)
		if err != nil {
			line = "unknown: " + err.Error()
		}
		if text, _, _ := strings.Cut(line, " (read in"); text != last && ctx.Err() == nil {
			last = text
			if _, err := fmt.Fprintf(out.stdout, "%s  %s\n", time.Now().Format("15:04:05.000"), line); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-source.Changed():
		}
	}
	return nil
}
