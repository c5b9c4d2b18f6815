package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/traffic"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// reportLimit bounds how long the end of the process waits for a report that is on its way. Hooks never do. Where the report fails,
// the verdict still stands in the log and in the pod's status.
const reportLimit = 500 * time.Millisecond

// reportBudget bounds a report of a drain that the agent outlives.
const reportBudget = 30 * time.Second

// reporter hands verdicts over to whom --report names.
type reporter struct {
	w    *wires
	sent sync.WaitGroup
}

// put is a sink of the recorder.
func (r *reporter) put(line timeline.Line) {
	if r.w.c.flags.Report == "" || line.Verdict == nil {
		return
	}
	body, err := line.Verdict.MarshalJSON()
	if err != nil {
		return // it never fails
	}
	r.sent.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), reportBudget)
		defer cancel()
		if r.try(ctx, body) != nil { // the pods of a node that is drained all report at once: not all of them again at the same moment
			pause := reportLimit/4 + rand.N(reportLimit/4) //nolint:gosec // no secret
			time.Sleep(pause)                              // short enough for a process that ends
			_ = r.try(ctx, body)                           // the verdict was the log's last word
		}
	})
}

// try leaves time for another one.
func (r *reporter) try(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, reportBudget/2)
	defer cancel()
	return r.w.post(ctx, "report", r.w.c.flags.Report, r.w.c.report, body)
}

func (r *reporter) wait() {
	over := make(chan struct{})
	go func() { r.sent.Wait(); close(over) }()
	select {
	case <-over:
	case <-time.After(reportLimit):
	}
}

// reporting reads what reports are signed with. A file that cannot be read yet is a doubt: a Secret may come late.
func (c *config) reporting(bad *problems) {
	path := c.flags.ReportAuth
	if path == "" {
		return
	}
	auth, err := traffic.NewAuth(path)
	if err != nil {
		bad.add("report-auth-file", "…", err.Error(), "write /PATH")
		return
	}
	c.report = auth
	if err := auth.Check(); err != nil {
		c.doubts = append(c.doubts, fmt.Sprintf("--report-auth-file: %v; verdicts are not reported until then", err))
	}
}
