package conductor

import (
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// track gathers, in the course of a drain, what its verdict will say. It decides nothing.
type track struct {
	began    bool
	byHand   bool          // it is an operator's drain, no stop yet
	t0       time.Duration // of this drain, or when the operator's began; the core forgets it with the last decision
	trigger  string
	late     *int64 // arrivals after the first answer
	came     *int64 // new connections since T0
	phases   map[string]time.Duration
	last     time.Duration // when follow was called last
	curve    timeline.Curve
	arrivals timeline.Arrivals
	waited   map[string]time.Duration // by reason
	waiting  string
	idle     drain.Count   // connections open when the first hook was answered
	score    *float64      // the same moment's
	stopped  string        // why stopping began
	stopping time.Duration // when it did
	cuts     cuts
	rung     string   // of the newest proxy sample
	asked    string   // the reason of who asked last
	severed  []string // containers whose hook had no caller left when it was answered
}

func newTrack() track {
	return track{phases: map[string]time.Duration{}, waited: map[string]time.Duration{}, cuts: newCuts()}
}

// follow adds up the time since the last decision, and looks at what is in flight when hooks are answered.
func (t *track) follow(c *Conductor, d drain.Decision) {
	s := &c.state
	switch {
	case s.T0 != 0 && (!t.began || t.byHand):
		t.begin(s.T0, false)
	case t.began:
		t.phases[d.From.String()] += s.Now - t.last
		if t.waiting != "" {
			t.waited[t.waiting] += s.Now - t.last
		}
		t.last = s.Now
		t.point(c)
	case d.To == drain.Maintenance:
		t.begin(s.Now, true)
	}
	if s.T0 != 0 {
		if !d.From.Terminating() {
			t.trigger = c.trigger()
		}
		t.countArrivals(c)
	}
	t.waiting = waitedFor(&c.cfg.Policy, d.Waiting)
	if d.To == drain.Stopping && d.From != drain.Stopping {
		t.stopped, t.stopping = c.because(d.Why), s.Now
		t.idle = c.openConns(s.Now)
		if score, known := drain.Score(&c.cfg.Policy, s); known {
			t.score = &score
		}
	}
	if t.began && s.T0 == 0 && d.To != drain.Maintenance && d.Verdict == drain.None {
		t.forget() // it was no stop after all
	}
}

// begin starts a drain at its first fact, or an operator's drain. What was gathered before belongs to no verdict: total_ms counts from T0.
func (t *track) begin(at time.Duration, byHand bool) {
	t.forget()
	t.cuts.before = drain.Count{}
	t.began, t.byHand, t.t0, t.last = true, byHand, at, at
}

// forget keeps only what outlives a drain.
func (t *track) forget() {
	rung, asked, cuts := t.rung, t.asked, t.cuts
	*t = newTrack()
	t.rung, t.asked, t.cuts = rung, asked, cuts
}

// waitedFor names who is waited for, without the numbers, so that times add up.
func waitedFor(p *drain.Policy, w drain.Why) string {
	switch w.Code {
	case drain.ProxyBusy:
		return "proxy in flight"
	case drain.ProxyUnknown:
		return "proxy unreadable"
	case drain.BytesUnderWay:
		return "bytes under way"
	case drain.BytesUnknown:
		return "bytes unreadable"
	case drain.AppBusy:
		return p.Name(w.Who) + " in flight"
	case drain.AppUnknown:
		return p.Name(w.Who) + " unreadable"
	case drain.Propagating:
		return "propagation"
	case drain.NewConnectionsCome, drain.RequestAwaited:
		return "new connections"
	case drain.ArrivalsUnknown:
		return "arrivals unreadable"
	case drain.ScoreHigh:
		return "idle connections that may come back"
	case drain.WaitingForEnd:
		return "end of " + p.Name(w.Who)
	default:
		return ""
	}
}

// point adds to the curve while every configured source is known.
func (t *track) point(c *Conductor) {
	if c.cfg.World.Proxy == nil && len(c.cfg.World.Apps) == 0 {
		return // nobody counts
	}
	var n int64
	proxy := c.state.Proxy.InFlight
	if c.cfg.World.Proxy != nil {
		if !proxy.Fresh(c.state.Now) {
			return
		}
		n = proxy.N
	}
	if app, fresh := c.appInFlight(c.state.Now); fresh {
		n = max(n, *app)
	} else if len(c.cfg.World.Apps) > 0 {
		return
	}
	t.curve.Add((c.state.Now - t.t0).Milliseconds(), n)
}

func (t *track) heldLongest() string {
	longest, name := time.Duration(0), ""
	for who, d := range t.waited {
		if d > longest || d == longest && who < name {
			longest, name = d, who
		}
	}
	return name
}

// conclude writes the verdict of the drain that ends with this decision, and starts afresh.
func (c *Conductor) conclude(d drain.Decision) {
	t := &c.track
	if c.over() {
		return // the watchdog has spoken
	}
	if t.trigger == "" {
		t.trigger = "operator"
		if d.Why.Code == drain.Ended {
			t.trigger = c.because(d.Why)
		}
	}
	v := timeline.Verdict{
		Time: time.Now(), Level: timeline.LevelInfo, Outcome: d.Verdict.String(), TotalMS: c.total().Milliseconds(),
		Phases: map[string]int64{}, InFlightCurve: t.curve.Points(), IdleConnectionsLeft: pointer(t.idle), Score: t.score,
		HeldLongest: t.heldLongest(), Cut: map[string]int64{}, Trigger: t.trigger, NewConnectionsAfterT0: t.came, ArrivalsAfterRelease: t.late, Reason: c.because(d.Why),
	}
	if load := c.state.Load; load.Known {
		v.ArrivalsCurve, v.RequestsPerSecond = t.arrivals.Points(), &load.PerSecond
	}
	if t.stopped != "" && d.Verdict != drain.Aborted {
		v.Reason, v.Cut = t.reason(c, d), c.cut()
	}
	if d.Verdict.ExitCode() != 0 {
		v.Level = timeline.LevelError
	}
	for name, spent := range t.phases {
		v.Phases[name] = spent.Milliseconds()
	}
	if t.came != nil {
		c.cfg.Metrics.NewConnections(*t.came)
	}
	c.cfg.Metrics.Verdict(v.Outcome, c.total())
	for name, spent := range t.phases {
		c.cfg.Metrics.PhaseLeft(name, spent)
	}
	c.cfg.Recorder.Conclude(v)
	if c.state.Said && d.Verdict != drain.ContainerRestart {
		if err := c.journal.ended(v.Outcome); err != nil {
			c.record(timeline.Event{Level: timeline.LevelWarn, Reason: "an agent that is started now would tell this stop twice: " + err.Error()})
		}
	}
	if c.state.Said {
		c.code.Store(int32(c.exitCode(d.Verdict)))
		c.spoken.Store(true)
	}
	t.forget()
	if d.To == drain.Maintenance {
		t.begin(c.state.Now, true)
	}
}

// reason is why stopping began, behind what spoiled it.
func (t *track) reason(c *Conductor, d drain.Decision) string {
	reason := t.stopped
	if alive := c.state.Alive; alive.Code != drain.NoReason && d.Verdict == drain.Deadline {
		reason = c.because(alive) + "; " + reason
	}
	if c.state.Earlier != drain.None && d.Verdict == c.state.Earlier {
		reason = c.because(c.state.EarlyWhy) + ", in a stop that was begun anew because a hook was called again; " + reason
	}
	if len(t.severed) > 0 {
		reason = "hook cut: nobody waited any more for the answer of " + strings.Join(t.severed, ", ") + "; " + reason
	}
	return reason
}

// countArrivals takes the best record of new connections, the listeners' own before the sockets'.
func (t *track) countArrivals(c *Conductor) {
	s := &c.state
	for _, a := range []*drain.Arrivals{&s.Peers, &s.Conns} {
		if a.Last.Known {
			t.came = new(a.Count)
		}
	}
	if open := c.openConns(s.Now); t.came != nil && open.Known && s.Requests.Last.Fresh(s.Now) {
		t.arrivals.Add([4]int64{(s.Now - t.t0).Milliseconds(), s.Requests.Count, *t.came, open.N})
	}
	if s.Requests.Last.Known && c.cfg.World.Proxy != nil { // else only what bounds them from above is known
		t.late = new(s.Requests.Late)
	}
}

// total is the time since T0.
func (c *Conductor) total() time.Duration {
	var sum time.Duration
	for _, spent := range c.track.phases {
		sum += spent
	}
	return sum
}

// trigger names the facts that started the drain.
func (c *Conductor) trigger() string {
	s, p := &c.state, &c.cfg.Policy
	var facts []string
	for id := drain.ID(0); id <= drain.Stranger; id++ {
		h := &s.Hooks[id]
		switch known := int(id) < len(p.Containers); {
		case h.Held || h.Released || h.Would:
			facts = append(facts, "hook "+p.Name(id))
		case known && s.Trigger.Has(id) && !p.Containers[id].Agent:
			facts = append(facts, p.Name(id)+" leaves")
		}
	}
	if s.Sigterm {
		facts = append(facts, "SIGTERM")
	}
	return strings.Join(facts, ", ")
}

func (c *Conductor) sawProxy(look ProxyLook) {
	c.cfg.Metrics.Poll(look.Took, look.Failure)
	c.cfg.Metrics.InFlight("proxy", look.Rung, look.InFlight.N, look.InFlight.Known)
	c.cfg.Metrics.Classes("proxy", look.Rung, look.Classes)
	c.mu.Lock()
	defer c.mu.Unlock()
	if look.Rung != "" {
		c.track.rung = look.Rung
	}
	score, known := drain.Score(&c.cfg.Policy, &c.state)
	c.cfg.Metrics.Score(score, known && c.state.Phase.Terminating())
}
