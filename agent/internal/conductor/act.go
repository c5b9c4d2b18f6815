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

// Whoever is asked for something has a lane: a slow app keeps nobody from telling Envoy, or its owner.
const (
	laneEnvoy = iota
	laneApp
	laneOwner
	lanes
)

func laneOf(a drain.Actions) int {
	switch a {
	case drain.TellApp:
		return laneApp
	case drain.HandOver:
		return laneOwner
	default:
		return laneEnvoy
	}
}

// act carries out the actions of one lane one after the other, so that an undo can never overtake what it undoes.
func (c *Conductor) act(ctx context.Context, lane <-chan drain.Actions) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-lane:
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
