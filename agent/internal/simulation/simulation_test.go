package simulation

import (
	"flag"
	"fmt"
	"iter"
	"runtime"
	"strings"
	"testing"
	"time"
)

var (
	oneSeed  = flag.Uint64("seed", 0, "play the scenario of this seed only, and tell it step by step")
	leaveOut = flag.String("drop", "", "parts of that scenario to leave out, with commas")
	stops    = flag.Int("stops", 300, "play so many scenarios, each kind of fault first; 0: as many as fit into -budget")
	within   = flag.Duration("budget", 25*time.Second, "how long Simulation may take without -stops")
	goOn     = flag.Bool("keep-going", false, "list every seed that fails, and shrink none")
	from     = flag.Uint64("from", 1, "the first seed")
)

// TestSimulation stops pods of random scenarios and asks of each whether a promise was broken.
func TestSimulation(t *testing.T) {
	if *oneSeed != 0 {
		tell(t, *oneSeed, *leaveOut)
		return
	}
	sum := newSum()
	defer func() { t.Log(sum) }()
	var first []uint64
	if *from == 1 {
		first = ofEachKind(3)
	}
	began, failed := time.Now(), ""
	for played := range plays(t, first, func(n int) bool { return *stops > 0 && n < *stops || *stops == 0 && time.Since(began) < *within }) {
		sum.add(played.pod)
		switch broken := played.broken; {
		case len(broken) > 0 && *goOn:
			t.Errorf("seed %d: %s", played.seed, strings.Join(broken, "; "))
		case len(broken) > 0:
			failed = fmt.Sprintf("after %d stops: %s", sum.Stops, shrunk(t, random(played.seed), broken))
		}
		if failed != "" {
			break
		}
		if sum.Stops%10_000 == 0 {
			fmt.Println(sum)
		}
	}
	if failed != "" {
		t.Fatal(failed)
	}
}

// Stops that once broke a promise, or seemed to by their log.
func TestStopsThatOnceFailed(t *testing.T) {
	for _, seed := range []uint64{
		1006243, 2014234, 3001022, 3015770, 4010105, 4015184, 4019519, 4077882, 4438719, 4451119, 4486224, 4618041, 4621023,
		4095332, 4130229, 4155509, 4166055, 4240182, 4282222, 4282665, 4390036,
	} {
		if broken := play(t, random(seed), false).judge(); len(broken) > 0 {
			t.Errorf("seed %d: %s", seed, strings.Join(broken, "\n"))
		}
	}
}

// played is one scenario after it was played.
type played struct {
	seed   uint64
	pod    *pod
	broken []string
}

// plays plays scenarios on all processors, the first seeds before the others, and hands them out in their order for as long as more says.
func plays(t *testing.T, first []uint64, more func(n int) bool) iter.Seq[played] {
	t.Helper()
	return func(yield func(played) bool) {
		var under []chan played // what is being played, the oldest first
		n := 0
		for {
			for ; len(under) < runtime.GOMAXPROCS(0) && more(n); n++ {
				seed := *from + uint64(n-min(n, len(first)))
				if n < len(first) {
					seed = first[n]
				}
				done := make(chan played, 1)
				under = append(under, done)
				go func() {
					p := play(t, random(seed), false)
					done <- played{seed, p, p.judge()}
				}()
			}
			if len(under) == 0 || !yield(<-under[0]) {
				break
			}
			under = under[1:]
		}
		for _, last := range under[min(1, len(under)):] {
			<-last
		}
	}
}

// tell plays one scenario and prints its story.
func tell(t *testing.T, seed uint64, drop string) {
	t.Helper()
	sc := random(seed)
	for _, part := range strings.FieldsFunc(drop, func(r rune) bool { return r == ',' }) {
		if !sc.drop(part) {
			t.Fatalf("leave out %q: there is no such part; there are %s", part, strings.Join(sc.parts(), ", "))
		}
	}
	p := play(t, sc, true)
	t.Logf("%+v\n%s", sc, strings.Join(p.story, "\n"))
	for _, broken := range p.judge() {
		t.Error(broken)
	}
}

// shrunk finds a smaller scenario that still breaks a promise, and prints the command that plays it.
func shrunk(t *testing.T, sc scenario, broken []string) string {
	t.Helper()
	for smaller := true; smaller; {
		smaller = false
		for _, part := range sc.parts() {
			less := sc
			if !less.drop(part) {
				continue
			}
			if b := play(t, less, false).judge(); len(b) > 0 {
				sc, broken, smaller = less, b, true
			}
		}
	}
	command := fmt.Sprintf("go test ./agent/internal/simulation -run Simulation -v -seed=%d", sc.Seed)
	if len(sc.dropped) > 0 {
		command += " -drop=" + strings.Join(sc.dropped, ",")
	}
	return fmt.Sprintf("seed %d: %s\nplay it again: %s", sc.Seed, strings.Join(broken, "\n"), command)
}

// sum is what many stops come to.
type sum struct {
	Stops, Requests, Lost int
	LostBy                map[string]int
	Outcomes              map[string]int
	began                 time.Time
}

func newSum() *sum {
	return &sum{LostBy: map[string]int{}, Outcomes: map[string]int{}, began: time.Now()}
}

func (s *sum) add(p *pod) {
	s.Stops++
	s.Requests += p.sentCount
	s.Lost += len(p.lost)
	for _, r := range p.lost {
		why := p.excuse()
		switch {
		case r.cutBy == "fault", r.cutBy == "restart":
			why = r.cutBy
		case why == "" && r.fresh:
			why = "balancer late"
		case why == "":
			why = "came back"
		}
		s.LostBy[why]++
	}
	for _, v := range p.verdicts {
		s.Outcomes[v.Outcome]++
	}
}

func (s *sum) String() string {
	return fmt.Sprintf("%d stops in %v, %d requests, %d lost, all inside the limits: %v; verdicts %v",
		s.Stops, time.Since(s.began).Round(time.Second), s.Requests, s.Lost, s.LostBy, s.Outcomes)
}
