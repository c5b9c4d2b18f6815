package conductor

import (
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// Status is the body of GET /status.
type Status struct {
	Phase      string            `json:"phase"`
	SinceMS    int64             `json:"since_ms"` // time spent in the phase
	Trigger    string            `json:"trigger"`
	T0         *time.Time        `json:"t0"`
	DeadlineMS *int64            `json:"deadline_ms"` // from T0 to the answer of the last hook at the latest
	LeftMS     *int64            `json:"left_ms"`
	Proxy      SideStatus        `json:"proxy"`
	App        SideStatus        `json:"app"`
	Score      *float64          `json:"score"`
	Waiting    string            `json:"waiting"` // what keeps the drain where it is
	Hooks      []HookStatus      `json:"hooks"`
	Events     []timeline.Event  `json:"events"`
	Verdict    *timeline.Verdict `json:"verdict,omitempty"`
}

// SideStatus is one side's reading: null when nobody can read it.
type SideStatus struct {
	InFlight *int64 `json:"in_flight"`
	Known    bool   `json:"known"`
	Rung     string `json:"rung"`
	AgeMS    *int64 `json:"age_ms"`

	Classes map[string]int64 `json:"classes,omitempty"` // the part of in_flight whose class can be told
}

// HookStatus is one container's hook in the drain under way.
type HookStatus struct {
	Container string `json:"container"`
	HeldMS    int64  `json:"held_ms"`
	Answered  bool   `json:"answered"`
}

// Status returns what is known right now.
func (c *Conductor) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, p := &c.state, &c.cfg.Policy
	now := c.elapsed()
	app, fresh := c.appInFlight(now)
	st := Status{
		Phase: s.Phase.String(), SinceMS: (now - s.Since).Milliseconds(), Waiting: c.track.waiting,
		Proxy:  SideStatus{InFlight: pointer(s.Proxy.InFlight.Count), Known: s.Proxy.InFlight.Fresh(now), Rung: c.track.rung, AgeMS: age(s.Proxy.InFlight, now)},
		Hooks:  []HookStatus{},
		Events: c.cfg.Recorder.Events(), Verdict: c.cfg.Recorder.Verdict(),
	}
	st.Proxy.Classes = c.track.cuts.proxy.classes
	if len(c.cfg.World.Apps) > 0 {
		st.App = SideStatus{InFlight: app, Known: fresh, Rung: c.cfg.World.Apps[0].Spec, AgeMS: age(s.Sources[0], now)}
	}
	for _, l := range c.track.cuts.apps {
		for class, n := range l.classes {
			if st.App.Classes == nil {
				st.App.Classes = map[string]int64{}
			}
			st.App.Classes[class] += n
		}
	}
	if s.T0 != 0 {
		st.Trigger = c.track.trigger
		st.T0 = new(c.start.Add(s.T0))
		st.DeadlineMS = new(p.Budget().Hard.Milliseconds())
	}
	if left, ok := c.left(); ok {
		st.LeftMS = new(left.Milliseconds())
	}
	if score, known := drain.Score(p, s); known && s.Phase.Terminating() {
		st.Score = &score
	}
	for id := drain.ID(0); id <= drain.Stranger; id++ {
		if h := s.Hooks[id]; h.Held || h.Released {
			st.Hooks = append(st.Hooks, HookStatus{Container: p.Name(id), HeldMS: heldFor(h, now), Answered: h.Released && !h.Held})
		}
	}
	return st
}

func heldFor(h drain.Hook, now time.Duration) int64 {
	if h.Held {
		return (now - h.Called).Milliseconds()
	}
	return max(0, h.AnsweredAt-h.Called).Milliseconds() // who is called again is answered at once
}

func age(r drain.Reading, now time.Duration) *int64 {
	if r.At == 0 {
		return nil
	}
	return new((now - r.At).Milliseconds())
}
