//go:build e2e

package e2e

import (
	"testing"
	"time"
)

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
