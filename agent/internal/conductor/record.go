package conductor

import (
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// record writes one event with the readings of the moment. The caller holds the lock.
func (c *Conductor) record(e timeline.Event) {
	s := &c.state
	if s.Over && c.track.told {
		return // the verdict was the last word
	}
	e.Time = time.Now()
	e.ElapsedMS = s.Now.Milliseconds()
	if t0 := max(s.T0, c.track.t0); t0 != 0 {
		e.ElapsedMS = (c.elapsed() - t0).Milliseconds()
	}
	if e.From == "" {
		e.From, e.To = s.Phase.String(), s.Phase.String()
	}
	e.ProxyInFlight, e.ProxyRung = pointer(s.Proxy.InFlight.Count), c.track.rung
	e.AppInFlight, e.AppSource = c.appInFlight()
	e.Connections = pointer(c.openConns())
	if score, known := drain.Score(&c.cfg.Policy, s); known && s.Phase.Terminating() {
		e.Score = &score
	}
	if left, ok := c.left(); ok {
		e.LeftMS = new(left.Milliseconds())
	}
	c.cfg.Recorder.Record(e)
}

// note writes an event that belongs to no decision.
func (c *Conductor) note(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.record(timeline.Event{Level: timeline.LevelInfo, Reason: text})
}

func (c *Conductor) noteProblem(source string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Phase >= drain.Stopping {
		return // it is meant to end
	}
	if err != nil {
		c.record(timeline.Event{Level: timeline.LevelWarn, Reason: source + " cannot be read: " + err.Error()})
	} else {
		c.record(timeline.Event{Level: timeline.LevelInfo, Reason: source + " can be read"})
	}
}

// noteInput records the facts among the inputs: hooks, SIGTERM, what became of a container.
func (c *Conductor) noteInput(in drain.Input, d drain.Decision, before *[drain.MaxContainers + 1]drain.Hook) {
	p := &c.cfg.Policy
	fact := timeline.Event{Level: timeline.LevelInfo, From: d.From.String(), To: d.From.String()}
	switch in.Kind {
	case drain.HookCalled:
		if !before[min(in.Container, drain.Stranger)].Held {
			reason := "hook called"
			if in.Authentic {
				reason += " with the token"
			}
			fact.Action, fact.Reason = timeline.Hold(p.Name(in.Container)), reason
			c.record(fact)
		}
	case drain.Terminated:
		fact.Reason = "SIGTERM"
		c.record(fact)
	case drain.Seen:
		if was := before[in.Container].Live; was != in.Live && c.state.Phase != drain.Serving {
			fact.Reason = p.Name(in.Container) + " was " + was.String() + ", is " + in.Live.String()
			c.record(fact)
		}
	default:
	}
}

// because is the reason in words, with what the operator gave as theirs.
func (c *Conductor) because(w drain.Why) string {
	text := w.Text(&c.cfg.Policy)
	switch w.Code {
	case drain.AskedToDrain, drain.AskedToUndrain, drain.AskedToFinish:
		if c.track.asked != "" {
			text += ": " + c.track.asked
		}
	default:
	}
	return text
}

// appInFlight adds up the app sources: one unknown makes the sum unknown.
func (c *Conductor) appInFlight() (*int64, string) {
	if len(c.cfg.World.Apps) == 0 {
		return nil, ""
	}
	var sum int64
	for i := range c.cfg.World.Apps {
		r := c.state.Sources[i]
		if !r.Known {
			return nil, c.cfg.World.Apps[i].Spec
		}
		sum += r.N
	}
	return &sum, c.cfg.World.Apps[0].Spec
}

func (c *Conductor) openConns() drain.Count {
	if conns := c.state.Proxy.Conns; conns.Known {
		return conns.Count
	}
	return c.state.Sockets.Conns.Count
}

// left is the time until the last hook must be answered.
func (c *Conductor) left() (time.Duration, bool) {
	s := &c.state
	if s.T0 == 0 {
		return 0, false
	}
	deadline := s.T0 + c.cfg.Policy.Budget().Hard
	if s.Hard != 0 {
		deadline = min(deadline, s.Hard)
	}
	return deadline - c.elapsed(), true
}

func pointer(n drain.Count) *int64 {
	if !n.Known {
		return nil
	}
	return &n.N
}
