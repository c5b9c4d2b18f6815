package simulation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/conductor"
	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// pod is one pod: the models, the conductor beside them and what is known of the run afterwards. Whoever looks advances the models.
type pod struct {
	sc      scenario
	policy  drain.Policy
	began   time.Time
	journal string        // the agent's file
	over    chan struct{} // closed when all has been played

	mu      sync.Mutex
	process *process // of the agent
	engine
	envoy   envoy
	app     app
	clients []*client
	sending map[*request]bool
	chance  dice
	gone    bool // the pod has ended

	deafUntil time.Duration // Envoy refuses every action until then

	lastRequest, lastConn time.Duration // when the newest came
	sentCount             int
	lost                  []*request
	result
}

// result is what a run left behind. All times count from the start of the agent.
type result struct {
	deletedAt  time.Duration // when kubelet began to stop the pod
	t0         time.Duration // when the agent heard of it first
	firstFact  string        // of whom
	sureAt     time.Duration // when it heard of a second container
	signal     time.Duration // the agent's SIGTERM
	hardAt     time.Duration // when kubelet's grace was over
	answered   map[string]time.Duration
	quitAt     time.Duration   // when the agent told Envoy to quit
	severed    map[string]bool // hooks that ended for kubelet because their carrier did
	endedAt    map[string]time.Duration
	looks      map[string]time.Duration // when what was last known of a source was true
	atRelease  release
	killed     bool // the agent was still there when kubelet's patience ended
	acts       []string
	broken     []string // promises that were broken while it ran
	verdicts   []*timeline.Verdict
	earlier    int           // verdicts before the stop
	stoppingAt time.Duration // when the first stage's turn began, in the newest stop
	story      []string
	telling    bool
	log        logText // the lines of the agent's log, which are judged by themselves
	idleRate   float64 // requests per second, the mean over Envoy's life until the stop
	connsAtT0  int
	finishedAt time.Duration // an operator's finish
	seen       seen
}

// seen is what the newest look at Envoy's statistics could know.
type seen struct {
	requestsAt, request time.Duration // when it looked, and when the newest request had come
	conns               int           // open then
	connsAt, conn       time.Duration
	opened              int // connections that were opened since the deletion
}

// release is the truth at the moment in which the first stage's hook was answered.
type release struct {
	at                    time.Duration
	active                []*request
	buffered, queued      int64
	moving                int64 // the part of them that a look could have shown, and that does not stand still
	conns                 int
	lastRequest, lastConn time.Duration
	looks                 map[string]time.Duration
	seen                  seen
}

func newPod(sc scenario, journal string) *pod {
	return &pod{
		sc: sc, policy: sc.policy(), began: time.Now(), journal: journal, over: make(chan struct{}),
		sending: map[*request]bool{}, chance: newDice(sc.Seed, "envoy", 0),
		envoy:  newEnvoy(sc.Gradual),
		app:    app{up: true, listens: true, active: map[*request]bool{}, manner: sc.AppManner, exitsAfter: sc.AppExits},
		result: result{answered: map[string]time.Duration{}, endedAt: map[string]time.Duration{}, severed: map[string]bool{}, looks: map[string]time.Duration{}},
	}
}

// play runs one scenario in a bubble of its own.
func play(t *testing.T, sc scenario, telling bool) *pod {
	t.Helper()
	var p *pod
	synctest.Test(t, func(t *testing.T) {
		p = newPod(sc, filepath.Join(t.TempDir(), "journal"))
		p.telling = telling
		p.run()
	})
	return p
}

func (p *pod) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer close(p.over)
	p.startAgent()
	p.with(func() {
		p.startClients()
		p.planFaults()
	})
	p.before(ctx)
	<-time.After(p.sc.Warm - time.Since(p.began))
	if p.sc.Job {
		p.job(ctx)
		return
	}
	p.kubelet(ctx)
	<-p.agent().exited
}

// with gives the caller the models as they are now.
func (p *pod) with(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advance(time.Since(p.began))
	do()
}

func (p *pod) note(text string) {
	if p.telling {
		p.story = append(p.story, fmt.Sprintf("%9.3fs  %s", p.now.Seconds(), text))
	}
}

// lasts lets a reading take its time; false when it was given up.
func (p *pod) lasts(ctx context.Context, who string, usual time.Duration) bool {
	var takes time.Duration
	p.with(func() { takes = cmp.Or(p.delay(who), usual) })
	var over <-chan struct{}
	if who == "admin" {
		over = p.envoy.gone // its connections tell its end at once
	}
	select {
	case <-time.After(takes):
		return true
	case <-over:
		return false
	case <-ctx.Done():
		return false
	}
}

// look is one look at Envoy's admin, as the adapter gives it: what cannot be read is unknown.
func (p *pod) look(ctx context.Context, _ time.Time) conductor.ProxyLook {
	look := conductor.ProxyLook{Live: drain.Up, Rung: "model"}
	var began time.Duration
	var now seen
	p.with(func() {
		v := &p.envoy
		began = p.now
		if !v.up {
			look = conductor.ProxyLook{Live: drain.Gone, Failure: "refused"}
			return
		}
		buffered, _, _ := p.bytes()
		now = seen{requestsAt: p.now, request: p.lastRequest, connsAt: p.now, conn: p.lastConn, conns: len(v.conns)}
		look.InFlight, look.Bytes = drain.Known(int64(len(v.active))), drain.Known(buffered)
		look.Conns, look.NewConns, look.Requests = drain.Known(int64(len(v.conns))), drain.Known(v.accepted), drain.Known(v.requests)
		if p.faulty("statistics hidden") {
			look.Conns, look.NewConns, look.Requests = drain.Count{}, drain.Count{}, drain.Count{}
		}
		if p.faulty("requests hidden") {
			look.InFlight = drain.Count{}
		}
		look.Changed = p.pushed(began)
	})
	if look.Live == drain.Gone {
		return look
	}
	if !p.lasts(ctx, "admin", 400*time.Microsecond) {
		failure := "timeout"
		if ctx.Err() == nil {
			failure = "garbage" // cut short
		}
		return conductor.ProxyLook{Failure: failure, Took: time.Since(p.began) - began}
	}
	p.with(func() {
		look.Took = p.now - began
		if look.InFlight.Known {
			p.looks["proxy"] = began
		}
		if look.Requests.Known {
			p.looks["requests"], p.seen.requestsAt, p.seen.request, p.seen.conns = began, now.requestsAt, now.request, now.conns
		}
		if look.NewConns.Known {
			p.looks["conns"], p.seen.connsAt, p.seen.conn = began, now.connsAt, now.conn
		}
		if look.Bytes.Known {
			p.looks["buffered"] = began
		}
	})
	return look
}

func (p *pod) lookAtSockets(ctx context.Context) (conductor.SocketsLook, error) {
	var look conductor.SocketsLook
	var began time.Duration
	hidden := false
	p.with(func() {
		_, queued, stalled := p.bytes()
		began, hidden = p.now, p.faulty("sockets hidden")
		look = conductor.SocketsLook{
			Conns: drain.Known(int64(len(p.envoy.conns))), NewConns: drain.Known(p.envoy.accepted),
			Bytes: drain.Known(queued), Stalled: drain.Known(stalled),
		}
	})
	if !p.lasts(ctx, "sockets", 200*time.Microsecond) || hidden {
		return conductor.SocketsLook{}, errors.New("not readable")
	}
	p.with(func() { p.looks["sockets"] = began })
	return look, nil
}

func (p *pod) read(ctx context.Context) (drain.Count, error) {
	var n drain.Count
	var began time.Duration
	err := error(syscall.ECONNREFUSED)
	p.with(func() {
		if began = p.now; p.app.up {
			n, err = drain.Known(int64(len(p.app.active))), nil
		}
	})
	if err != nil { // whoever hung there refuses no less soon
		<-time.After(300 * time.Microsecond)
		return n, err
	}
	if !p.lasts(ctx, "app", 300*time.Microsecond) {
		return drain.Count{}, errors.New("timeout")
	}
	p.with(func() { p.looks["app"] = began })
	return n, nil
}

func (p *pod) watch(ctx context.Context) (drain.Liveness, error) {
	live := drain.Unseen
	p.with(func() { live = p.app.live() })
	if !p.lasts(ctx, "watch", 250*time.Microsecond) {
		return drain.Unseen, errors.New("timeout")
	}
	return live, nil
}

func (p *pod) describe(ctx context.Context) (conductor.Description, error) {
	var d conductor.Description
	up := false
	p.with(func() {
		up = p.envoy.up
		d = conductor.Description{Epoch: "model", Text: "model", Facts: drain.ProxyFacts{
			Known: true, Directed: true, Requests: true, Uptime: p.now.Truncate(time.Second),
			Gradual: p.sc.Gradual > 0, DrainTime: p.sc.Gradual, Handover: p.sc.Handover,
		}}
	})
	if !p.lasts(ctx, "admin", ms) || !up {
		return conductor.Description{}, errors.New("refused")
	}
	return d, nil
}

// act does to Envoy what the agent asks for, and checks that it may.
func (p *pod) act(ctx context.Context, a drain.Actions) error {
	who := "admin"
	if a == drain.TellApp {
		who = "app"
	}
	if !p.lasts(ctx, who, 2*ms) {
		return cmp.Or(ctx.Err(), errors.New("cut short"))
	}
	var err error
	p.with(func() {
		p.note("agent: " + a.String())
		p.acts = append(p.acts, a.String())
		p.checkAct(a)
		switch {
		case a != drain.TellApp && !p.envoy.up:
			err = errors.New("refused")
		case p.faulty("actions fail"), p.now < p.deafUntil:
			err = errors.New("503")
		default:
			p.carryOut(a)
		}
	})
	return err
}

func (p *pod) carryOut(a drain.Actions) {
	v := &p.envoy
	switch a {
	case drain.FailHealth:
		v.failed = true
	case drain.PassHealth:
		v.failed = false
	case drain.DrainInbound, drain.HandOver:
		if !v.draining {
			v.draining, v.drainFrom = true, p.now
		}
	case drain.TellApp:
		p.app.portClosed = p.sc.DrainCloses
	case drain.Quit:
		p.quitAt = p.now
		p.endEnvoy("agent")
	}
}

// take keeps the agent's own log.
func (p *pod) take(l timeline.Line) {
	p.with(func() {
		p.log.write(l)
		if v := l.Verdict; v != nil {
			p.verdicts = append(p.verdicts, v)
			p.note(fmt.Sprintf("verdict %s after %d ms: %s; cut %v, held longest by %s", v.Outcome, v.TotalMS, v.Reason, v.Cut, v.HeldLongest))
			return
		}
		e := l.Event
		if e.From != e.To && e.To == drain.Stopping.String() {
			p.stoppingAt = p.now
		}
		if p.telling {
			p.note(strings.Join(strings.Fields(fmt.Sprintf("agent: %s > %s %s %s %s", e.From, e.To, e.Action, e.Result, e.Reason)), " "))
		}
	})
}

// noMetrics takes the figures that nobody reads here.
type noMetrics struct{}

func (noMetrics) SetPhase(string)                          {}
func (noMetrics) PhaseLeft(string, time.Duration)          {}
func (noMetrics) Verdict(string, time.Duration)            {}
func (noMetrics) InFlight(string, string, int64, bool)     {}
func (noMetrics) Classes(string, string, map[string]int64) {}
func (noMetrics) Hold(string, time.Duration)               {}
func (noMetrics) NewConnections(int64)                     {}
func (noMetrics) Score(float64, bool)                      {}
func (noMetrics) Poll(time.Duration, string)               {}
func (noMetrics) UnknownHook()                             {}
