package conductor

import (
	"context"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

const (
	actLimit  = 2 * time.Second
	quitLimit = 900 * time.Millisecond // the verdict waits for a second, and its failure must be told before
)

// act carries out actions one after the other, so that an undo can never overtake what it undoes.
func (c *Conductor) act(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-c.actions:
			limit := actLimit
			if a == drain.Quit {
				limit = quitLimit
			}
			acting, cancel := context.WithTimeout(ctx, limit)
			c.send(drain.Input{Kind: drain.Acted, Action: a, OK: c.actAndTell(acting, a)})
			cancel()
		}
	}
}

func (c *Conductor) actAndTell(ctx context.Context, a drain.Actions) bool {
	e, ok := c.perform(ctx, a)
	c.mu.Lock()
	defer c.mu.Unlock()
	if ok || c.failed[a] != e.Result { // it is tried again and again, and said once
		c.record(e)
	}
	if c.failed[a] = e.Result; ok {
		delete(c.failed, a)
	}
	return ok
}

// perform writes the journal before it touches Envoy, and clears it after an undo.
func (c *Conductor) perform(ctx context.Context, a drain.Actions) (timeline.Event, bool) {
	e := timeline.Event{Level: timeline.LevelInfo, Action: a.String(), Result: "ok"}
	if err := c.journal.before(a, c.epochNow()); err != nil {
		e.Reason = "an agent that restarts now could not undo this: " + err.Error()
		e.Level = timeline.LevelWarn
	}
	if err := c.cfg.World.Act(ctx, a); err != nil {
		e.Level, e.Result = timeline.LevelWarn, err.Error()
		return e, false
	}
	if err := c.journal.after(a); err != nil {
		e.Level, e.Reason = timeline.LevelWarn, err.Error()
	}
	return e, true
}

func (c *Conductor) epochNow() string {
	if e := c.epoch.Load(); e != nil {
		return *e
	}
	return ""
}

// rememberMaintenance keeps an operator's drain across restarts of the agent.
func (c *Conductor) rememberMaintenance(d drain.Decision) {
	var err error
	switch {
	case d.To == drain.Maintenance && d.From == drain.Serving:
		err = c.journal.maintenance(true)
	case d.Verdict == drain.MaintenanceEnded:
		err = c.journal.maintenance(false)
	}
	if err != nil {
		c.record(timeline.Event{Level: timeline.LevelWarn, Reason: "a restarted agent would forget the maintenance: " + err.Error()})
	}
}

// restore hands the core what an earlier agent process left behind: on the Envoy of this epoch, or "" before any was seen.
func (c *Conductor) restore(epoch string) {
	left, err := c.journal.load(epoch)
	if err != nil {
		c.mu.Lock()
		c.record(timeline.Event{Level: timeline.LevelWarn, Reason: err.Error()})
		c.mu.Unlock()
	}
	if left != (drain.Journal{}) {
		c.send(drain.Input{Kind: drain.Restored, Journal: left})
	}
}
