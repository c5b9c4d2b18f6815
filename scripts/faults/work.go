package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
	"github.com/drain-agent/drain-agent/scripts/load/openloop"
	"github.com/drain-agent/drain-agent/scripts/synced"
)

// work is what is in flight.
type work struct {
	long chan error          // the answer of the one long request
	load *openloop.Generator // of the load
}

// begin brings the cell's work under way.
func (c cell) begin(ctx context.Context, p *played) (*work, error) {
	w := &work{}
	switch c.work {
	case long:
		w.long = make(chan error, 1)
		go func() {
			_, err := ask(ctx, http.MethodGet, "http://"+p.address(demopod.Inbound)+"/work?ms=6000")
			w.long <- err
		}()
		return w, p.oneMore(ctx)
	case load:
		plan := openloop.DefaultPlan(p.address(demopod.Inbound))
		plan.Rate, plan.Slow = 30, 0
		plan.Work = []openloop.Work{{Share: 0.9, Takes: 20 * time.Millisecond}, {Share: 0.1, Takes: 3 * time.Second}}
		var err error
		if w.load, err = openloop.Start(ctx, plan); err != nil {
			return nil, err
		}
		return w, synced.Until(ctx, "some load", func() bool { return w.load.Snapshot().Sent >= 60 })
	}
	return w, nil
}

// leave ends the load half a second after the deletion: by then everybody who sends has been told.
func (w *work) leave(ctx context.Context) {
	if w.load != nil {
		wait(ctx, 500*time.Millisecond)
		w.load.End()
	}
}

// end says what became of the work: requests sent, those lost, and how.
func (w *work) end() (sent, lost int, how string) {
	if w.long != nil {
		if err := <-w.long; err != nil {
			return 1, 1, err.Error()
		}
		return 1, 0, ""
	}
	if w.load != nil {
		r := w.load.Stop()
		if r.LatestMS > 1000 {
			how = fmt.Sprintf("; the clients were %.0f ms late", r.LatestMS)
		}
		return r.Requests, r.Failed, r.Kinds() + how
	}
	return 0, 0, ""
}
