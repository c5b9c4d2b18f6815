package drain

import (
	"hash/maphash"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/promises"
)

// moves are the things that can happen to a pod, as one step of an exploration.
var moves = []struct {
	name string
	do   func(w *world)
}{
	{"hook app", func(w *world) { w.hook(app) }},
	{"hook proxy", func(w *world) { w.hook(proxy) }},
	{"hook agent", func(w *world) { w.hook(agent) }},
	{"hook unknown", func(w *world) { w.hook(Stranger) }},
	{"hook app with token", func(w *world) { w.send(Input{Kind: HookCalled, Container: app, Authentic: true}) }},
	{"SIGTERM", func(w *world) { w.sigterm() }},
	{"app busy", func(w *world) { w.app = Known(1) }},
	{"app unknown", func(w *world) { w.app = Count{} }},
	{"app idle", func(w *world) { w.app = Known(0) }},
	{"proxy busy", func(w *world) { w.proxy = Known(1) }},
	{"proxy unknown", func(w *world) { w.proxy, w.rqs, w.newConns = Count{}, Count{}, Count{} }},
	{"proxy idle", func(w *world) { // its counters never run backwards
		w.proxy, w.rqs, w.newConns = Known(0), Known(max(5, w.rqs.N)), Known(max(5, w.newConns.N))
	}},
	{"bytes in a send queue", func(w *world) { w.queued = Known(70000) }},
	{"bytes in Envoy", func(w *world) { w.buffered = Known(9000) }},
	{"bytes unknown", func(w *world) { w.queued = Count{} }},
	{"bytes sent", func(w *world) { w.queued, w.buffered = Known(0), Known(0) }},
	{"a connection without a request", func(w *world) { w.newConns.N, w.sockNew.N = w.newConns.N+1, w.sockNew.N+1 }},
	{"a connection comes", (*world).arrive},
	{"Envoy is slow", func(w *world) { w.late[proxyPoller] = 60 * ms }},
	{"statistics are dear", func(w *world) { w.rare = 700 * ms }},
	{"sockets are slow", func(w *world) { w.late[socketPoller] = 60 * ms }},
	{"app dies", func(w *world) { w.live[app] = Gone }},
	{"proxy dies", func(w *world) { w.live[proxy], w.proxy = Gone, Count{} }},
	{"app is stuck", func(w *world) { w.endsAfter[app] = -1 }},
	{"drain", func(w *world) { w.send(Input{Kind: AskedDrain}) }},
	{"undrain", func(w *world) { w.send(Input{Kind: AskedUndrain}) }},
	{"finish", func(w *world) { w.send(Input{Kind: AskedFinish}) }},
	{"actions fail", func(w *world) { w.actFails = ^Actions(0) }},
	{"its owner has a drain", func(w *world) {
		w.send(Input{Kind: Described, Facts: ProxyFacts{Known: true, Directed: true, Handover: true, Uptime: time.Hour}})
	}},
	{"0.3 s pass", func(w *world) { w.run(w.now+300*ms, nil) }},
	{"1.2 s pass", func(w *world) { w.run(w.now+1200*ms, nil) }},
	{"7 s pass", func(w *world) { w.run(w.now+7*sec, nil) }},
}

// decisive are the moves that most promises turn on: they are played one level deeper than all.
var decisive = []string{
	"hook app", "hook agent", "SIGTERM", "app busy", "app idle", "proxy unknown", "app dies", "proxy dies", "1.2 s pass", "7 s pass",
}

// explorer plays every order of moves up to a depth, and after each lets ninety seconds pass.
type explorer struct {
	t           *testing.T
	until       time.Time // ends what goes deeper than sure
	deep        bool
	played      int
	path        []string
	only        []string // the moves, nil for all
	seed        maphash.Seed
	visited     map[uint64]int // state of the pod: the depth to which it was explored
	transitions map[[2]Phase]bool
}

func (e *explorer) check(w *world, d Decision, broken string) {
	if d.From != d.To {
		e.transitions[[2]Phase{d.From, d.To}] = true
	}
	if broken != "" {
		e.t.Fatalf("%s\nat %v after %s\n%s", broken, w.now, strings.Join(e.path, ", "), strings.Join(w.events, "\n"))
	}
}

func (e *explorer) from(w *world, depth int) {
	if e.deep && time.Now().After(e.until) {
		return
	}
	if known, ok := e.visited[w.fingerprint(e.seed)]; ok && known >= depth {
		return
	}
	e.visited[w.fingerprint(e.seed)] = depth
	end := w.clone()
	end.run(end.now+90*sec, nil)
	if held := end.s.Held(); held != 0 {
		e.t.Fatalf("hooks %b held 90 s after %s", held, strings.Join(e.path, ", "))
	}
	e.played++
	if depth == 0 {
		return
	}
	for _, m := range moves {
		if e.only != nil && !slices.Contains(e.only, m.name) {
			continue
		}
		next := w.clone()
		e.path = append(e.path, m.name)
		next.now += time.Microsecond // after what came before, also in the same moment
		m.do(next)
		e.from(next, depth-1)
		e.path = e.path[:len(e.path)-1]
	}
}

// fingerprint identifies the state of the pod and of the core: orders of moves that lead to the same one are explored once.
func (w *world) fingerprint(seed maphash.Seed) uint64 {
	return maphash.Comparable(seed, struct {
		p                *Policy
		s                State
		times            [4]time.Duration
		late, nextLook   [3]time.Duration
		coming           [3]look
		rare             time.Duration
		stats            look
		counts           [8]Count
		live             [MaxContainers]Liveness
		endsAfter, endAt [MaxContainers]time.Duration
		fails            Actions
		exited           bool
		watch            promises.Watch
	}{
		w.policyID, w.s,
		[4]time.Duration{w.now, w.nextPoll, w.wake, w.arrivedAt},
		w.late, w.nextLook,
		w.coming, w.rare, w.stats,
		[8]Count{w.proxy, w.app, w.conns, w.newConns, w.rqs, w.sockConns, w.buffered, w.queued},
		w.live, w.endsAfter, w.endAt, w.actFails, w.exited, w.watch,
	})
}

func (w *world) clone() *world {
	c := *w
	c.log = strings.Builder{}
	c.events, c.verdicts = slices.Clone(w.events), slices.Clone(w.verdicts)
	return &c
}

// sure is the depth to which all moves are explored however long it takes, the decisive ones in a pod of today's usual kind one deeper.
const sure = 2

// TestExploration plays input orders breadth first to fixed depths, and deeper for as long as EXPLORE says (a Go duration).
func TestExploration(t *testing.T) {
	budget := time.Duration(0)
	if text := os.Getenv("EXPLORE"); text != "" {
		var err error
		if budget, err = time.ParseDuration(text); err != nil {
			t.Fatalf("read EXPLORE: %v; want a Go duration such as 60s", err)
		}
	}
	e := &explorer{t: t, seed: maphash.MakeSeed(), until: time.Now().Add(budget), transitions: map[[2]Phase]bool{}}
	starts := []struct {
		policy func(*Policy)
		world  func(*world)
	}{
		{},
		{policy: func(p *Policy) { p.Hooks = 0b011 }},
		{policy: func(p *Policy) { p.Containers[1].Outlives = true }},
		{policy: func(p *Policy) { p.Hooks = 0b001 }},
		{policy: func(p *Policy) { p.ExitWith = Set(0).With(app) }},
		{policy: func(p *Policy) { p.Observe, p.Containers[app].Sleep = true, 3*sec }},
		{policy: func(p *Policy) { p.Grace = 4 * sec }},
		{policy: appDrains, world: (*world).stop},
		{world: (*world).stop},
		{world: func(w *world) { // only the sockets tell of connections, and nobody came for long
			w.conns, w.newConns, w.sockConns, w.sockNew = Count{}, Count{}, Known(0), Known(0)
			w.stop()
			w.run(w.now+900*ms, nil)
		}},
	}
	complete := 0
	play := func(i, depth int) {
		p := Defaults()
		p.IdleSample = 10 * sec
		if starts[i].policy != nil {
			starts[i].policy(&p)
		}
		w := newWorld(p)
		w.every, w.policyID = 150*ms, &p
		w.check = e.check
		w.run(5*sec, nil)
		if starts[i].world != nil {
			starts[i].world(w)
		}
		e.from(w, depth)
	}
	for depth := 1; depth <= sure || time.Now().Before(e.until); depth++ {
		e.deep = depth > sure
		e.visited = map[uint64]int{}
		for i := range starts {
			play(i, depth)
		}
		if depth == sure {
			e.only, e.visited = decisive, map[uint64]int{}
			play(0, sure+1)
			e.only = nil
		}
		if !e.deep || time.Now().Before(e.until) {
			complete = depth
		}
	}
	t.Logf("%d input orders, complete to depth %d, of the decisive ones to %d", e.played, complete, max(complete, sure+1))
	for _, edge := range slices.SortedFunc(maps.Keys(e.transitions), func(a, b [2]Phase) int { return int(a[0])*16 + int(a[1]) - int(b[0])*16 - int(b[1]) }) {
		if !documented()[edge] {
			t.Errorf("doc.go does not have %s -> %s", edge[0], edge[1])
		}
	}
}
