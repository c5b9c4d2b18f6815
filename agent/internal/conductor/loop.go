package conductor

import (
	"context"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// quitWithin bounds the very last action: the process waits for it.
const quitWithin = time.Second

func (c *Conductor) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var in drain.Input
		select {
		case <-ctx.Done():
			return
		case <-c.ended:
			return
		case in = <-c.inputs:
		case <-timer.C:
		}
		wake, exit := c.step(ctx, in)
		if exit {
			c.end(c.exitCode())
			return
		}
		timer.Reset(max(0, wake-c.elapsed()))
	}
}

// step lets the core decide on one input, and again as long as it has more to do at once.
func (c *Conductor) step(ctx context.Context, in drain.Input) (wake time.Duration, exit bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		in.At = c.elapsed()
		var d drain.Decision
		before := c.state.Hooks
		c.state, d = drain.Step(&c.cfg.Policy, c.state, in)
		c.carryOut(ctx, in, d, &before)
		if d.Exit {
			return 0, true
		}
		if d.Wake > c.state.Now {
			return d.Wake, false
		}
		in = drain.Input{Kind: drain.Tick}
	}
}

// carryOut does what was decided, in the order in which it must be seen: facts, the change of phase, actions, answers, verdict.
func (c *Conductor) carryOut(ctx context.Context, in drain.Input, d drain.Decision, before *[drain.MaxContainers + 1]drain.Hook) {
	c.track.follow(c, d)
	c.noteInput(in, d, before)
	if d.From != d.To {
		c.rememberMaintenance(d)
		c.cfg.Metrics.SetPhase(d.To.String())
		c.record(timeline.Event{Level: level(d), From: d.From.String(), To: d.To.String(), Reason: c.because(d.Why)})
	}
	if c.fast.Swap(d.Fast) != d.Fast || d.Sample {
		c.wakePollers()
	}
	c.begin(ctx, d)
	for id := drain.ID(0); id <= drain.Stranger; id++ {
		if d.Would.Has(id) {
			c.record(timeline.Event{Level: timeline.LevelInfo, Action: timeline.WouldAnswer(c.cfg.Policy.Name(id)), Reason: c.because(d.Why)})
		}
		if d.Release.Has(id) {
			c.answer(id, d, c.state.Now-before[id].Called)
		}
	}
	if d.Verdict != drain.None {
		c.conclude(d)
	}
}

// begin starts the actions. The last ones of all are waited for: nobody is left to do them afterwards.
func (c *Conductor) begin(ctx context.Context, d drain.Decision) {
	if !d.Exit {
		d.Do.Each(func(a drain.Actions) { c.actions <- a })
		return
	}
	ctx, cancel := context.WithTimeout(ctx, quitWithin)
	defer cancel()
	d.Do.Each(func(a drain.Actions) { c.actNow(ctx, a) })
}

func (c *Conductor) answer(id drain.ID, d drain.Decision, held time.Duration) {
	name := c.cfg.Policy.Name(id)
	c.cfg.Metrics.Hold(name, held)
	c.record(timeline.Event{Level: timeline.LevelInfo, Action: timeline.Answer(name), Reason: c.because(d.Why)})
	out := d.Verdict
	if out == drain.None {
		out = c.state.Ending
	}
	c.hooks.answer(id, answered{phase: d.To.String(), outcome: out.String()})
}

func (c *Conductor) exitCode() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cfg.Policy.ExitWith != drain.Nobody {
		return 0
	}
	return c.state.Ending.ExitCode()
}

func level(d drain.Decision) string {
	switch d.Why.Code {
	case drain.BudgetOver, drain.GraceOver, drain.DrainMaxOver, drain.ProxyGone, drain.AppGone:
		return timeline.LevelError
	case drain.QuietMaxOver, drain.OnlyHook, drain.NeverSignalled, drain.CalledAgain, drain.RestartMaxOver, drain.StageCapped:
		return timeline.LevelWarn
	}
	return timeline.LevelInfo
}
