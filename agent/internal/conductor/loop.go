package conductor

import (
	"cmp"
	"context"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

func (c *Conductor) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var m message
		select {
		case <-ctx.Done():
			return
		case <-c.ended:
			return
		case m = <-c.inputs:
		case <-timer.C:
		}
		wake, exit := c.step(m)
		if exit {
			return
		}
		timer.Reset(max(0, wake-c.elapsed()))
	}
}

// step lets the core decide on one input, and again as long as it has more to do at once.
func (c *Conductor) step(m message) (wake time.Duration, exit bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.call != nil && c.hooks.answeredBefore(m.call) {
		m = message{} // it joined a call that was answered while this message was on its way: no new fact
	}
	for {
		m.At = c.elapsed()
		var d drain.Decision
		before, wanted := c.state.Hooks, c.state.Wanted
		c.state, d = drain.Step(&c.cfg.Policy, c.state, m.Input)
		if c.cfg.Saw != nil {
			c.cfg.Saw(m.Input, &c.state, d)
		}
		c.deciding = true
		c.noteIntents(m, wanted)
		c.carryOut(m, d, &before)
		c.deciding = false
		if d.Exit {
			c.end(int(c.code.Load()), nil)
			return 0, true
		}
		if d.Wake > c.state.Now {
			return d.Wake, false
		}
		m = message{}
	}
}

// carryOut does what was decided, in the order in which it must be seen: facts, the change of phase, answers, actions, verdict.
func (c *Conductor) carryOut(m message, d drain.Decision, before *[drain.MaxContainers + 1]drain.Hook) {
	c.track.cuts.note(m, c.breaksOff(before))
	c.track.follow(c, d)
	if d.From != d.To || d.Verdict != drain.None {
		c.last.Store(&answered{phase: d.To.String(), outcome: cmp.Or(d.Verdict, c.state.Ending).String()})
	}
	c.noteInput(m, d, before)
	if d.From != d.To {
		c.cfg.Metrics.SetPhase(d.To.String())
		c.record(timeline.Event{Level: level(d), From: d.From.String(), To: d.To.String(), Reason: c.because(d.Why)})
	}
	for _, p := range c.pollers {
		p.repace(p.pick(&d.Looks), d.Sample)
	}
	if d.To == drain.Confirming && d.From != d.To {
		c.lookAgain() // what the stop is decided by is newer than the stop
	}
	for id := drain.ID(0); id <= drain.Stranger; id++ {
		if d.Would.Has(id) {
			c.record(timeline.Event{Level: timeline.LevelInfo, Action: timeline.WouldAnswer(c.cfg.Policy.Name(id)), Reason: c.because(d.Why)})
		}
		if d.Release.Has(id) {
			c.answer(id, d, c.state.Now-before[id].Called)
		}
	}
	d.Do.Each(func(a drain.Actions) { c.lanes[laneOf(a)] <- a })
	if d.Verdict != drain.None {
		c.conclude(d)
	}
	if d.Verdict != drain.None || c.state.Over {
		c.hooks.rearm(c)
	}
}

func (c *Conductor) answer(id drain.ID, d drain.Decision, held time.Duration) {
	name := c.cfg.Policy.Name(id)
	c.cfg.Metrics.Hold(name, held)
	c.record(timeline.Event{Level: timeline.LevelInfo, Action: timeline.Answer(name), Reason: c.because(whyAnswered(d))})
	if c.hooks.answer(id, answered{phase: d.To.String(), outcome: cmp.Or(d.Verdict, c.state.Ending).String()}) == 0 && id != drain.Stranger && c.state.Hard == 0 {
		c.track.severed = append(c.track.severed, name)
	}
}

// whyAnswered is the change of phase, or what became of the stage before.
func whyAnswered(d drain.Decision) drain.Why {
	switch d.Waiting.Code {
	case drain.StageGone, drain.StageCapped, drain.StageUncalled, drain.StageOutlives, drain.LastBytes:
		return d.Waiting
	default:
		return d.Why
	}
}

func (c *Conductor) exitCode(out drain.Outcome) int {
	if c.cfg.Policy.ExitWith != 0 {
		return 0
	}
	return out.ExitCode()
}

func level(d drain.Decision) string {
	switch d.Why.Code {
	case drain.BudgetOver, drain.GraceOver, drain.DrainMaxOver, drain.ProxyGone, drain.AppGone:
		return timeline.LevelError
	case drain.QuietMaxOver, drain.SettledUncounted, drain.OnlyHook, drain.NeverSignalled, drain.CalledAgain, drain.RestartMaxOver, drain.StageCapped, drain.EndUnseen:
		return timeline.LevelWarn
	default:
		return timeline.LevelInfo
	}
}
