package drain

import (
	"strings"
	"testing"
)

// FuzzStep plays any sequence of moves and checks every promise after every step.
func FuzzStep(f *testing.F) {
	f.Add([]byte{0, 1, 2, 19, 20})
	f.Add([]byte{5, 0, 1, 21, 0, 21})
	f.Add([]byte{15, 0, 1, 16, 12, 20, 21})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 60 {
			return
		}
		p := Defaults()
		if len(script) > 0 {
			p.Hooks = Set(script[0] >> 5)
			p.Containers[1].Outlives = script[0]&1 != 0
		}
		w := newWorld(p)
		w.every = 200 * ms
		var path []string
		w.check = func(w *world, d Decision, broken string) {
			if broken != "" {
				t.Fatalf("%s\nat %v after %s\n%s", broken, w.now, strings.Join(path, ", "), strings.Join(w.events, "\n"))
			}
		}
		for _, b := range script {
			m := moves[int(b)%len(moves)]
			path = append(path, m.name)
			m.do(w)
		}
		w.run(w.now+90*sec, nil)
		if held := w.s.Held(); held != 0 {
			t.Fatalf("hooks %b held at the end of %s", held, strings.Join(path, ", "))
		}
	})
}
