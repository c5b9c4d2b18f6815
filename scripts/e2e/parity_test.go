//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	tolerance = 400 * time.Millisecond // how far apart two events must be, in both timelines, for their order to mean something
	far       = 3 * time.Second        // what is that far apart in one timeline must not happen together in the other
)

// A step is one event in the stop of a pod, in words that both timelines share: "hook app", "answer app", "sigterm app",
// "exit app 0".
type step struct {
	at   time.Time
	what string
}

// A stage runs one pod of a workload, on kubelet or on podsim.
type stage interface {
	url(port int, path string) string
	signal(container string, sig syscall.Signal)
	restarted(container string) // waits for its second life
	remove(grace *time.Duration)
	agentLog() string
	finished() []step // waits for the pod's end
	spoilt() bool     // the node itself failed meanwhile
}

// Row 9: podsim tells the truth. What happens to a pod in these scenarios is the same as on a real kubelet, in the same order.
func TestPodsimAgreesWithKubelet(t *testing.T) {
	t.Parallel()
	ownNode(t)
	four := 4 * time.Second
	for _, scenario := range []struct {
		name  string
		shape string
		adapt func(*workload)
		spent bool // the grace period is over before the hooks: nobody waits for anybody then
		play  func(*testing.T, stage)
	}{
		{"native idle", "native", nil, false, func(_ *testing.T, s stage) { s.remove(nil) }},
		{"native with a request", "native", nil, false, func(t *testing.T, s stage) { busy(t, s, 6*time.Second); s.remove(nil) }},
		{"proxy before agent", "native", func(w *workload) { w.proxyFirst() }, false, func(t *testing.T, s stage) { busy(t, s, 6*time.Second); s.remove(nil) }},
		{"classic with a request", "classic", nil, false, func(t *testing.T, s stage) { busy(t, s, 6*time.Second); s.remove(nil) }},
		{"no agent, no hooks", "native", func(w *workload) { w.withoutAgent() }, false, func(t *testing.T, s stage) { busy(t, s, 6*time.Second); s.remove(nil) }},
		{"grace exhausted", "native", func(w *workload) { w.grace(12) }, true, func(t *testing.T, s stage) { busyOn(t, s, appPort, 50*time.Minute); s.remove(nil) }},
		{"shorter grace than configured", "native", nil, true, func(t *testing.T, s stage) { busyOn(t, s, appPort, 50*time.Minute); s.remove(&four) }},
		{"app killed in mid-drain", "native", nil, false, func(t *testing.T, s stage) { killInMidDrain(t, s, "app") }},
		{"proxy killed in mid-drain", "native", nil, false, func(t *testing.T, s stage) { killInMidDrain(t, s, "proxy") }},
		{"agent killed in mid-drain", "native", nil, false, func(t *testing.T, s stage) { killInMidDrain(t, s, "drain-agent") }},
		{"liveness restart of the app, then deleted", "native", impatient, false, func(t *testing.T, s stage) { restartApp(t, s); s.remove(nil) }},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			t.Parallel()
			run := func(begin func(*testing.T, *workload) stage, real bool) []step {
				for range 3 {
					w := load(t, scenario.shape, namespaceFor(t, real))
					if scenario.adapt != nil {
						scenario.adapt(w)
					}
					s := begin(t, w)
					scenario.play(t, s)
					if steps := s.finished(); !s.spoilt() {
						return steps
					}
				}
				t.Fatal("the node itself failed three times, as told above: nothing to compare")
				return nil
			}
			kubelet, podsim := run(onKubelet, true), run(onPodsim, false)
			for _, difference := range differences(kubelet, podsim) {
				t.Error(difference)
			}
			if !scenario.spent {
				for name, steps := range map[string][]step{"kubelet": kubelet, "podsim": podsim} {
					for _, wrong := range causes(steps, waves(load(t, scenario.shape, "any"), scenario.adapt)) {
						t.Errorf("%s: %s", name, wrong)
					}
				}
			}
			if t.Failed() {
				t.Logf("kubelet: %v\npodsim:  %v", show(kubelet), show(podsim))
			}
		})
	}
}

func namespaceFor(t *testing.T, real bool) string {
	if real {
		return namespace(t, "restricted")
	}
	return "default"
}

const (
	proxyPort = 8000
	appPort   = 8080 // past the proxy, whose end then does not end the request
)

// busy sends a request through the proxy that takes that long, and returns when the app has it.
func busy(t *testing.T, s stage, takes time.Duration) {
	t.Helper()
	busyOn(t, s, proxyPort, takes)
}

func busyOn(t *testing.T, s stage, port int, takes time.Duration) {
	t.Helper()
	response, err := http.Get(s.url(port, fmt.Sprintf("/stream?ms=%d&chunks=2", takes.Milliseconds()/2)))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer response.Body.Close()
		_, _ = countBytes(response.Body)
	}()
}

func killInMidDrain(t *testing.T, s stage, container string) {
	t.Helper()
	busy(t, s, 16*time.Second) // still under way when the container is killed, also on a starved machine
	s.remove(nil)
	eventually(t, time.Minute, "the agent drains", func() bool { return strings.Contains(s.agentLog(), `"to":"draining"`) })
	s.signal(container, syscall.SIGKILL)
}

// impatient lets kubelet restart the app as soon as it is not ready.
func impatient(w *workload) {
	w.container("app").LivenessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromInt32(8090)}},
		PeriodSeconds: 1, FailureThreshold: 2,
	}
}

func restartApp(t *testing.T, s stage) {
	t.Helper()
	response, err := http.Post(s.url(8090, "/toggle-health"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	s.restarted("app")
}

// differences compares what happened, and the order of every two events that lie apart in both timelines.
func differences(kubelet, podsim []step) []string {
	var all []string
	for _, side := range []struct {
		name      string
		has, want []step
	}{{"podsim lacks", podsim, kubelet}, {"only podsim has", kubelet, podsim}} {
		for _, s := range side.want {
			if find(side.has, s.what) == nil {
				all = append(all, side.name+" "+s.what)
			}
		}
	}
	for i, a := range kubelet {
		for _, b := range kubelet[i+1:] {
			x, y := find(podsim, a.what), find(podsim, b.what)
			if x == nil || y == nil {
				continue
			}
			here, there := b.at.Sub(a.at), y.at.Sub(x.at)
			if here > tolerance && there < -tolerance || here > far && there < tolerance || here < tolerance && there.Abs() > far {
				all = append(all, fmt.Sprintf("from %q to %q it is %v on kubelet, %v on podsim", a.what, b.what, here, there))
			}
		}
	}
	return all
}

func find(steps []step, what string) *step {
	if i := slices.IndexFunc(steps, func(s step) bool { return s.what == what }); i >= 0 {
		return &steps[i]
	}
	return nil
}

// ordered sorts steps by time and numbers those that come again. A signal after a container's exit is no step: nobody is
// there to see it, until a hook shows its next life.
func ordered(steps []step) []step {
	slices.SortStableFunc(steps, func(a, b step) int { return a.at.Compare(b.at) })
	gone, seen := map[string]bool{}, map[string]int{}
	var kept []step
	for _, s := range steps {
		verb, name, _ := strings.Cut(s.what, " ")
		name, _, _ = strings.Cut(name, " ")
		if verb == "sigterm" && gone[name] {
			continue
		}
		if verb == "hook" || verb == "exit" {
			gone[name] = verb == "exit"
		}
		if seen[s.what]++; seen[s.what] > 1 {
			s.what = fmt.Sprintf("%s (%d)", s.what, seen[s.what])
		}
		kept = append(kept, s)
	}
	return kept
}

func show(steps []step) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "\n  %6.3f %s", s.at.Sub(steps[0].at).Seconds(), s.what)
	}
	return b.String()
}
