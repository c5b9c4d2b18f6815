//go:build e2e

package e2e

import (
	"io"
	"slices"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

func countBytes(r io.Reader) (int, error) {
	n, err := io.Copy(io.Discard, r)
	return int(n), err
}

// onItsWay is how long before the answer to the hook a client may have sent what reaches a busy Envoy only after it. Clients that
// never stop coming are cut off somewhere (--quiet-max).
const onItsWay = time.Second

// Row 10: the only replica goes and nobody takes its place. While its hook is held, nobody is refused.
func TestSingleReplica(t *testing.T) {
	t.Parallel()
	w := load(t, "native", namespace(t, "restricted")).replicas(1).start(t)
	seen := watch(t, w.ns)
	pod := pods(t, w.ns, w.selector())[0]
	log := follow(t, w.ns, pod.Name, "drain-agent")
	plan := mix(w.target(t))
	plan.Rate, plan.Slow, plan.Clients = 10, 0, map[openloop.Client]float64{openloop.Fresh: 1}
	plan.Work = []openloop.Work{{Share: 1, Takes: 20 * time.Millisecond}}
	load, err := openloop.Start(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "requests are served", func() bool { return load.Snapshot().Sent > 30 })
	kubectl(t, "-n", w.ns, "scale", "deployment/"+w.deployment.Name, "--replicas=0")
	seen.gone(t, pod.Name, time.Minute)
	report := load.Stop()
	released := when(t, log.events(), "answer app")
	early := slices.DeleteFunc(slices.Clone(report.Failures), func(f openloop.Failure) bool {
		ended := f.At.Add(time.Duration(f.AfterMS) * time.Millisecond)
		return !ended.Before(released) && !f.At.Before(released.Add(-onItsWay))
	})
	held := released.Sub(when(t, log.events(), "hold app"))
	t.Logf("hook held %v; %d requests, %d failed, all but %d after the hook was answered", held, report.Requests, report.Failed, len(early))
	if len(early) > 0 {
		t.Errorf("failed while the hook was held: %+v", early)
	}
	if held < 2*time.Second {
		t.Errorf("held only %v: too short to show anything", held)
	}
}

// when returns the time of the first event with that action.
func when(t *testing.T, events []timeline.Event, action string) time.Time {
	t.Helper()
	i := slices.IndexFunc(events, func(e timeline.Event) bool { return e.Action == action })
	if i < 0 {
		t.Fatalf("the timeline has no action %q", action)
	}
	return events[i].Time
}
