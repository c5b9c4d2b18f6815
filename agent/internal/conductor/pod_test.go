package conductor

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

const (
	app   = drain.ID(0)
	proxy = drain.ID(1)
	agent = drain.ID(2)
)

// pod is a pod in a synctest bubble: its containers, its Envoy and its kubelet. Tests change the fields with set.
type pod struct {
	appChanged chan struct{} // the app source's own word that it changed
	t          *testing.T
	cfg        Config
	c          *Conductor
	began      time.Time
	metrics    *figures
	exit       chan int
	kubelet    sync.WaitGroup

	mu                                     sync.Mutex
	proxyLook                              ProxyLook
	sockets                                SocketsLook
	inApp                                  drain.Count
	appClasses                             map[string]int64
	appErr                                 error
	appLive                                drain.Liveness
	appEnds                                func()        // runs when it does
	goesOn                                 time.Duration // the proxy, after its hook's answer, for so much longer than others
	epoch, doubt                           string
	owned, lingers                         bool                  // Envoy's owner has a drain of its own; it lets Envoy finish at SIGTERM
	readApp                                func(context.Context) // runs before each reading of the app
	readProxy                              func(context.Context)
	onAct                                  func(context.Context, drain.Actions) error
	appReads, proxyReads, describes, looks []time.Duration
	acts                                   []string
	lines                                  []timeline.Line
	sink                                   func(timeline.Line)
}

// bubble runs a test in virtual time. Its end proves that the conductor left no goroutine behind.
func bubble(t *testing.T, test func(t *testing.T, p *pod)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := newPod(t, dir)
		test(t, p)
		p.c.end(0, nil)
		p.pass(2 * time.Second) // what still runs after this stays for ever
	})
}

func newPod(t *testing.T, dir string) *pod {
	t.Helper()
	p := &pod{
		t: t, began: time.Now(), metrics: newFigures(), exit: make(chan int, 1),
		proxyLook: ProxyLook{InFlight: drain.Known(0), Conns: drain.Known(0), NewConns: drain.Known(0), Requests: drain.Known(0), Bytes: drain.Known(0), Live: drain.Up, Rung: "clusters"},
		sockets:   SocketsLook{Bytes: drain.Known(0), Stalled: drain.Known(0)},
		inApp:     drain.Known(0), appLive: drain.Up, epoch: "envoy-1",
	}
	p.cfg = Config{
		Policy: drain.Defaults(), Recorder: timeline.NewRecorder(p.take), Metrics: p.metrics, Poll: 25 * time.Millisecond,
		World: World{
			Describe: p.describe, Proxy: p.look, Act: p.act, Journal: filepath.Join(dir, "journal.json"),
			Apps:    []AppSource{{Container: app, Spec: "fake:app", Changed: p.appChanged, Read: p.read, Classes: p.tell}},
			Sockets: p.lookAtSockets,
			Watches: []Watch{{Container: app, Look: p.watch}},
		},
	}
	return p
}

// start runs the conductor and waits until it serves.
func (p *pod) start() {
	p.c = New(p.cfg)
	go func() { p.exit <- p.c.Run(p.t.Context()) }()
	synctest.Wait()
}

func (p *pod) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *pod) now() time.Duration { return time.Since(p.began) }

// pass lets virtual time go by.
func (p *pod) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// until waits for a condition in virtual time, at most for ten minutes.
func (p *pod) until(what string, ok func() bool) {
	p.t.Helper()
	for began := p.now(); !ok(); p.pass(5 * time.Millisecond) {
		if p.now()-began > 10*time.Minute {
			p.t.Fatalf("never: %s\n%s", what, p.story())
		}
	}
}

func (p *pod) inPhase(phase drain.Phase) func() bool {
	return func() bool { return p.c.Status().Phase == phase.String() }
}

func (p *pod) code() int {
	p.t.Helper()
	select {
	case code := <-p.exit:
		p.kubelet.Wait()
		return code
	case <-time.After(10 * time.Minute):
		p.t.Fatalf("Run did not return\n%s", p.story())
		return 0
	}
}

// hook calls one hook; the answer and its time come on the channel.
func (p *pod) hook(name string) <-chan Answer {
	return p.hookBy(p.t.Context(), name, false)
}

func (p *pod) hookBy(ctx context.Context, name string, token bool) <-chan Answer {
	out := make(chan Answer, 1)
	go func() { out <- p.c.Hook(ctx, name, token) }()
	return out
}

// stopAll does what kubelet does with native sidecars: all hooks at once, SIGTERM to each container after its answer.
func (p *pod) stopAll() {
	for _, name := range []string{"app", "proxy", "agent"} {
		p.kubelet.Go(func() {
			p.c.Hook(p.t.Context(), name, false)
			<-time.After(310 * time.Millisecond) // between two readings
			switch name {
			case "app":
				p.set(func() {
					p.appLive, p.inApp, p.appErr = drain.Gone, drain.Count{}, fmt.Errorf("refused")
					if p.appEnds != nil {
						p.appEnds()
					}
				})
			case "proxy":
				<-time.After(p.goesOn)
				p.set(func() { p.proxyLook = ProxyLook{Live: drain.Gone, Failure: refused} })
			case "agent":
				p.c.Terminate()
			}
		})
		synctest.Wait()
	}
}

// stopped starts the pod and stops it five seconds later.
func (p *pod) stopped() {
	p.start()
	p.pass(5 * time.Second)
	p.stopAll()
}

func (p *pod) describe(context.Context) (Description, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.describes = append(p.describes, p.now())
	if p.proxyLook.Failure == refused {
		return Description{}, fmt.Errorf("refused")
	}
	return Description{Epoch: p.epoch, Text: "envoy " + p.epoch, Doubt: p.doubt, Facts: drain.ProxyFacts{Known: true, Directed: true, Uptime: time.Hour, Handover: p.owned, Lingers: p.lingers}}, nil
}

func (p *pod) look(ctx context.Context, _ time.Time) ProxyLook {
	p.mu.Lock()
	p.proxyReads = append(p.proxyReads, p.now())
	before := p.readProxy
	p.mu.Unlock()
	began := time.Now()
	if before != nil {
		before(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	look := p.proxyLook
	look.Took = time.Since(began)
	if ctx.Err() != nil {
		return ProxyLook{Failure: "timeout", Note: "envoy cannot be read", Took: look.Took}
	}
	return look
}

func (p *pod) read(ctx context.Context) (drain.Count, error) {
	p.mu.Lock()
	p.appReads = append(p.appReads, p.now())
	before := p.readApp
	p.mu.Unlock()
	if before != nil {
		before(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := cmp.Or(ctx.Err(), p.appErr); err != nil {
		return drain.Count{}, err
	}
	return p.inApp, nil
}

func (p *pod) tell() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.appClasses
}

func (p *pod) watch(context.Context) (drain.Liveness, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looks = append(p.looks, p.now())
	return p.appLive, nil
}

func (p *pod) act(ctx context.Context, a drain.Actions) error {
	p.mu.Lock()
	on := p.onAct
	p.mu.Unlock()
	var err error
	if on != nil {
		err = on(ctx, a)
	}
	p.set(func() { p.acts = append(p.acts, fmt.Sprintf("%v %v", a, err)) })
	return err
}

func (p *pod) take(l timeline.Line) {
	p.mu.Lock()
	p.lines = append(p.lines, l)
	sink := p.sink
	p.mu.Unlock()
	if sink != nil {
		sink(l)
	}
}

func (p *pod) verdicts() []*timeline.Verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*timeline.Verdict
	for _, l := range p.lines {
		if l.Verdict != nil {
			all = append(all, l.Verdict)
		}
	}
	return all
}

// verdict returns the one verdict there must be.
func (p *pod) verdict() *timeline.Verdict {
	p.t.Helper()
	synctest.Wait() // the verdict follows the last answer
	all := p.verdicts()
	if len(all) != 1 {
		p.t.Fatalf("%d verdicts, want 1\n%s", len(all), p.story())
	}
	return all[0]
}

// story is the timeline as text: elapsed time, phases, action, result and reason.
func (p *pod) story() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, l := range p.lines {
		if v := l.Verdict; v != nil {
			fmt.Fprintf(&b, "verdict %s after %d\n", v.Outcome, v.TotalMS)
			continue
		}
		e := l.Event
		phase := e.From
		if e.To != e.From {
			phase += " > " + e.To
		}
		what := strings.Join(slices.DeleteFunc([]string{e.Action, e.Result, e.Reason}, func(s string) bool { return s == "" }), ", ")
		fmt.Fprintf(&b, "%d %s: %s\n", e.ElapsedMS, phase, what)
	}
	return b.String()
}

func (p *pod) said(text string) bool { return strings.Contains(p.story(), text) }

func (p *pod) sayOnce(text string) {
	p.t.Helper()
	if n := strings.Count(p.story(), text); n != 1 {
		p.t.Errorf("%q stands %d times in the timeline, want once:\n%s", text, n, p.story())
	}
}

// sumOfPhases must equal the total: no moment of a drain belongs to two phases or to none.
func sumOfPhases(v *timeline.Verdict) int64 {
	var sum int64
	for _, ms := range v.Phases {
		sum += ms
	}
	return sum
}

func phaseNames(v *timeline.Verdict) string {
	return strings.Join(slices.Sorted(maps.Keys(v.Phases)), " ")
}

func shown[T any](p *T) string {
	if p == nil {
		return "null"
	}
	return fmt.Sprint(*p)
}

// figures are the metrics of a test.
type figures struct {
	mu                         sync.Mutex
	phases, outcomes, failures []string
	spent                      map[string]time.Duration
	holds                      map[string]time.Duration
	unknown                    int
	newConns                   int64
	score                      bool // is shown
	onPhase, onHold            func()
}

func newFigures() *figures {
	return &figures{spent: map[string]time.Duration{}, holds: map[string]time.Duration{}}
}

func (f *figures) with(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *figures) SetPhase(phase string) {
	f.with(func() { f.phases = append(f.phases, phase) })
	if f.onPhase != nil {
		f.onPhase()
	}
}

func (f *figures) PhaseLeft(phase string, d time.Duration) { f.with(func() { f.spent[phase] += d }) }

func (f *figures) Verdict(out string, total time.Duration) {
	f.with(func() { f.outcomes = append(f.outcomes, fmt.Sprintf("%s %d", out, total.Milliseconds())) })
}

func (f *figures) InFlight(string, string, int64, bool) {}

func (f *figures) Classes(string, string, map[string]int64) {}

func (f *figures) Hold(name string, held time.Duration) {
	f.with(func() { f.holds[name] = held })
	if f.onHold != nil {
		f.onHold()
	}
}

func (f *figures) NewConnections(n int64) { f.with(func() { f.newConns += n }) }

func (f *figures) Score(_ float64, known bool) { f.with(func() { f.score = known }) }

func (f *figures) Poll(_ time.Duration, failure string) {
	f.with(func() { f.failures = append(f.failures, failure) })
}

func (f *figures) UnknownHook() { f.with(func() { f.unknown++ }) }

func (p *pod) lookAtSockets(context.Context) (SocketsLook, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sockets, nil
}
