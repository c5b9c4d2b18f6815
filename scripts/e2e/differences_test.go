//go:build e2e

package e2e

import (
	"slices"
	"testing"
	"time"
)

// What must come before what is seen even where both happen within milliseconds.
func TestCauses(t *testing.T) {
	at := func(what string, ms int) step { return step{time.UnixMilli(int64(ms)), what} }
	order := [][]string{{"app"}, {"proxy"}, {"drain-agent"}}
	right := []step{at("hook app", 0), at("answer app", 2000), at("sigterm app", 2001), at("exit app 0", 2100), at("sigterm proxy", 2101), at("exit proxy 0", 2110), at("sigterm drain-agent", 2111)}
	for _, row := range []struct {
		name  string
		steps []step
		want  int
	}{
		{"right", right, 0},
		{"SIGTERM before the hook's answer", append(slices.Clone(right[:2]), at("sigterm app", 1900), at("exit app 0", 2100)), 1},
		{"the proxy before the app's end", append(slices.Clone(right[:4]), at("sigterm proxy", 2010)), 1},
		{"the agent before both ends", append(slices.Clone(right[:6]), at("sigterm drain-agent", 2000)), 2},
		{"clocks apart", append(slices.Clone(right[:4]), at("sigterm proxy", 2060)), 0},
		{"no hook", []step{at("sigterm app", 0), at("exit app 0", 10), at("sigterm proxy", 11)}, 0},
	} {
		if got := causes(row.steps, order); len(got) != row.want {
			t.Errorf("%s: %d found, want %d: %v", row.name, len(got), row.want, got)
		}
	}
}

// The comparison of row 9 has to see what is different, and to overlook what is only a little later.
func TestDifferences(t *testing.T) {
	at := func(what string, seconds float64) step {
		return step{time.Unix(0, 0).Add(time.Duration(seconds * float64(time.Second))), what}
	}
	kubelet := []step{at("hook app", 0), at("answer app", 2), at("sigterm app", 2.01), at("exit app 0", 3), at("sigterm proxy", 6)}
	for _, row := range []struct {
		name   string
		podsim []step
		want   int
	}{
		{"the same, later", []step{at("hook app", 0), at("answer app", 4), at("sigterm app", 4.01), at("exit app 0", 4.1), at("sigterm proxy", 8)}, 0},
		{"close neighbours change places", []step{at("hook app", 0), at("sigterm app", 2), at("answer app", 2.01), at("exit app 0", 3), at("sigterm proxy", 6)}, 0},
		{"another exit code", []step{at("hook app", 0), at("answer app", 2), at("sigterm app", 2.01), at("exit app 137", 3), at("sigterm proxy", 6)}, 2},
		{"something is missing", []step{at("hook app", 0), at("sigterm app", 2.01), at("exit app 0", 3), at("sigterm proxy", 6)}, 1},
		{"another order", []step{at("answer app", 0), at("hook app", 2), at("sigterm app", 2.5), at("exit app 0", 3), at("sigterm proxy", 6)}, 1},
		{"at once, not one after the other", []step{at("hook app", 0), at("answer app", 2), at("sigterm app", 2.01), at("sigterm proxy", 2.01), at("exit app 0", 3)}, 3},
	} {
		if got := differences(kubelet, row.podsim); len(got) != row.want {
			t.Errorf("%s: %d differences, want %d: %v", row.name, len(got), row.want, got)
		}
	}
}
