package drain

import (
	_ "embed"
	"regexp"
	"strings"
	"testing"
)

//go:embed doc.go
var docText string

// documented reads the transition table of doc.go.
func documented() map[[2]Phase]bool {
	byName := map[string]Phase{}
	for _, p := range Phases() {
		byName[p.String()] = p
	}
	table := map[[2]Phase]bool{}
	for _, m := range regexp.MustCompile(`(?m)^//\t(\w+) +(\w+) +\S`).FindAllStringSubmatch(docText, -1) {
		from, ok := byName[m[1]]
		if to, ok2 := byName[m[2]]; ok && ok2 {
			table[[2]Phase{from, to}] = true
		}
	}
	return table
}

// TestEveryDocumentedTransitionHappens is the other half of the comparison: TestExploration finds what is not documented.
func TestEveryDocumentedTransitionHappens(t *testing.T) {
	plays := map[string]func(w *world){
		"clean": func(w *world) { w.stop(); w.run(60*sec, nil) },
		"app dies announcing": func(w *world) {
			w.stop()
			w.run(w.now+100*ms, nil)
			w.live[app] = Gone
			w.run(60*sec, nil)
		},
		"app dies draining": func(w *world) {
			w.stop()
			w.run(w.now+1200*ms, nil)
			w.live[app] = Gone
			w.run(60*sec, nil)
		},
		"traffic returns": func(w *world) {
			w.stop()
			w.run(60*sec, func() bool { return w.s.Phase == Settling })
			w.app = Known(1)
			w.run(60*sec, nil)
		},
		"restart":  func(w *world) { w.hook(app); w.run(60*sec, nil) },
		"own":      func(w *world) { w.sigterm(); w.run(60*sec, nil) },
		"finish 1": func(w *world) { w.hook(app); w.send(Input{Kind: AskedFinish}) },
		"second": func(w *world) {
			w.app = Known(1)
			w.hook(app)
			w.run(w.now+1500*ms, nil)
			w.hook(proxy)
		},
		"job": func(w *world) { w.p.ExitWith = Set(0).With(app); w.live[app] = Gone; w.run(60*sec, nil) },
		"job in maintenance": func(w *world) {
			w.p.ExitWith = Set(0).With(app)
			w.run(w.now+sec, nil)
			w.poll()
			w.live[app] = Gone
			w.run(w.now+50*ms, nil)
			w.poll()
			w.run(w.now+50*ms, nil)
			w.poll()
			w.run(60*sec, nil)
		},
		"again": func(w *world) {
			w.endsAfter[app] = -1
			w.stop()
			w.run(60*sec, func() bool { return w.s.Phase == Stopping })
			w.run(w.now+sec, nil)
			w.hook(app)
		},
		"stranger": func(w *world) {
			w.endsAfter[app], w.endsAfter[proxy] = -1, -1
			w.hook(app)
			w.hook(proxy)
			w.run(60*sec, nil)
		},
	}
	seen := map[[2]Phase]bool{}
	for name, play := range plays {
		for _, operated := range []bool{false, true} {
			w := newWorld(Defaults())
			w.check = func(w *world, d Decision, broken string) {
				seen[[2]Phase{d.From, d.To}] = true
				if broken != "" {
					t.Fatalf("%s: %s\n%s", name, broken, strings.Join(w.events, "\n"))
				}
			}
			if operated {
				w.send(Input{Kind: AskedDrain})
			}
			w.run(5*sec, nil)
			play(w)
			w.send(Input{Kind: AskedUndrain})
		}
	}
	if len(documented()) < 20 {
		t.Fatalf("read %d transitions from doc.go", len(documented()))
	}
	for edge := range documented() {
		if !seen[edge] {
			t.Errorf("documented but never seen: %s -> %s", edge[0], edge[1])
		}
	}
}
