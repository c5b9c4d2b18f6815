package conductor

import (
	"fmt"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// moment is the time of what is being recorded: that of the decision where one is carried out, so that the line shows the readings on
// which it was decided, however late a busy machine writes it.
func (c *Conductor) moment() time.Duration {
	if c.deciding {
		return c.state.Now
	}
	return c.elapsed()
}

// record writes one event with the readings of the moment. The caller holds the lock.
func (c *Conductor) record(e timeline.Event) {
	if c.spoken.Load() || c.over() {
		return // the verdict was the last word
	}
	s, now := &c.state, c.moment()
	e.Time = time.Now().Add(now - c.elapsed())
	e.ElapsedMS = (now - c.track.t0).Milliseconds()
	if e.From == "" {
		e.From, e.To = s.Phase.String(), s.Phase.String()
	}
	if s.Proxy.InFlight.Fresh(now) {
		e.ProxyInFlight, e.ProxyRung = pointer(s.Proxy.InFlight.Count), c.track.rung
	}
	if sum, fresh := c.appInFlight(now); fresh {
		e.AppInFlight, e.AppSource = sum, c.cfg.World.Apps[0].Spec
	}
	e.Connections = pointer(c.openConns(now))
	if score, known := drain.Score(&c.cfg.Policy, s); known && s.Phase.Terminating() {
		e.Score = &score
	}
	if left, ok := c.left(); ok {
		e.LeftMS = new(left.Milliseconds())
	}
	c.cfg.Recorder.Record(e)
}

// note writes an event that belongs to no decision.
func (c *Conductor) note(text string) { c.noteAt(timeline.LevelInfo, text) }

func (c *Conductor) warn(text string) { c.noteAt(timeline.LevelWarn, text) }

func (c *Conductor) noteAt(level, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.record(timeline.Event{Level: level, Reason: text})
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
func (c *Conductor) noteInput(in message, d drain.Decision, before *[drain.MaxContainers + 1]drain.Hook) {
	p := &c.cfg.Policy
	fact := timeline.Event{Level: timeline.LevelInfo, From: d.From.String(), To: d.From.String()}
	switch in.Kind {
	case drain.HookCalled:
		if in.text != "" {
			c.record(timeline.Event{Level: timeline.LevelError, From: fact.From, To: fact.To, Reason: fmt.Sprintf(
				"hook of unknown container %q: held with the first stage; --hooks does not name it", in.text)})
		}
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
		if was := before[in.Container].Live; was != in.Live && (c.state.Phase != drain.Serving || was != drain.Unseen && in.Live == drain.Gone) {
			fact.Reason = p.Name(in.Container) + " was " + was.String() + ", is " + in.Live.String()
			if p.Observe && in.Container == p.Proxy() && in.Live == drain.Gone {
				fact.Reason += fmt.Sprintf("; read last %d ms ago: what failed since is not counted", (c.elapsed() - c.track.cuts.seenAt()).Milliseconds())
			}
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

// appInFlight adds up the app sources: one unknown makes the sum unknown, one that is stale makes it stale.
func (c *Conductor) appInFlight(now time.Duration) (sum *int64, fresh bool) {
	fresh = len(c.cfg.World.Apps) > 0
	var n int64
	for i := range c.cfg.World.Apps {
		r := c.state.Sources[i]
		if !r.Known {
			return nil, false
		}
		n += r.N
		fresh = fresh && r.Fresh(now)
	}
	return &n, fresh
}

// openConns is the best count of open inbound connections: Envoy's own, else the sockets'.
func (c *Conductor) openConns(now time.Duration) drain.Count {
	for _, conns := range []drain.Reading{c.state.Proxy.Conns, c.state.Sockets.Conns} {
		if conns.Fresh(now) {
			return conns.Count
		}
	}
	return drain.Count{}
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
