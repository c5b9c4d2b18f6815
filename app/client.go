package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/drain-agent/drain-agent/app/internal/client"
)

type clientCmd struct {
	Target      string        `required:"" help:"host:port of the service (gRPC without TLS)."`
	Rate        float64       `default:"10" help:"Requests per second, started on time whether or not earlier ones have ended."`
	Duration    time.Duration `default:"60s" help:"How long to send; 0 until interrupted."`
	Concurrency int           `default:"1000" help:"Requests in flight at most; more are counted as not sent."`
	Keys        int           `default:"0" help:"Draw idempotency keys from so many, so that calls repeat; 0 makes a new one for each."`
	Mode        string        `default:"payments" enum:"payments,requests,mixed" help:"What to send."`
	RetryFor    time.Duration `default:"0s" help:"Repeat a failed payment under the same key for so long. 0: every failure is counted as it is."`
	Timeout     time.Duration `default:"10s" help:"Of one try."`
	Accounts    int           `default:"100" help:"As many as the service opened."`
	WorkMs      int64         `default:"20" help:"Length of a request in the modes requests and mixed."`
	Output      string        `short:"o" default:"text" enum:"text,json" help:"Format of the summary."`
}

// Run sends, checks the ledger and prints. It fails when an acknowledged payment is lost or doubled, or when the ledger
// could not be checked; requests that failed are reported and are no failure of the client.
func (c *clientCmd) Run(ctx context.Context, out io.Writer) error {
	report, err := client.Run(ctx, client.Config{
		Target: c.Target, Rate: c.Rate, Duration: c.Duration, Concurrency: c.Concurrency, Keys: c.Keys, Mode: c.Mode,
		RetryFor: c.RetryFor, Timeout: c.Timeout, Accounts: c.Accounts, WorkMs: c.WorkMs,
		Progress: func(line string) {
			if c.Output == "text" {
				_, _ = fmt.Fprintln(out, line)
			}
		},
	})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		if err := json.NewEncoder(out).Encode(report); err != nil {
			return fmt.Errorf("print the report: %w", err)
		}
	} else {
		_, _ = fmt.Fprint(out, report.Text())
	}
	switch {
	case !report.Ledger.Checked:
		return fmt.Errorf("the ledger could not be checked: %s", report.Ledger.Problem)
	case report.Ledger.Lost+report.Ledger.Doubled > 0:
		return errors.New("the ledger does not hold every acknowledged payment exactly once")
	}
	return nil
}
