//go:build e2e

package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

var (
	rollouts = flag.Int("rollouts", 3, "rollouts of the two shapes of rows 1 and 2; a third as many of the others, and of regular containers in the short form")
	long     = flag.Bool("long", false, "the rows of the long form too: proxy first, and what people run today")
	table    = flag.Int("table", 0, "rollouts per row of the table of TestRolloutTable; 0: no table")
)

func onlyLong(t *testing.T) {
	t.Helper()
	if !*long {
		t.Skip("belongs to the long form: -args -long")
	}
}

// A rollout is the result of replacing every pod several times under load.
type rollout struct {
	load  openloop.Report
	stops []time.Duration // of each pod, sorted
	last  []corev1.Pod    // their last states
}

func (r rollout) String() string {
	return fmt.Sprintf("%d requests, %d failed (%s); seconds per stop min/median/max %.1f/%.1f/%.1f of %d",
		r.load.Requests, r.load.Failed, r.load.Kinds(),
		r.stops[0].Seconds(), r.stops[len(r.stops)/2].Seconds(), r.stops[len(r.stops)-1].Seconds(), len(r.stops))
}

// mix is 200 requests/s, 90 % of 20 ms, 9 % of 2 s and 1 % of 8 s, half of them on fresh connections and half kept alive,
// HTTP/1.1, HTTP/2 and gRPC, and 500 kept-alive connections each used every 10 s. Nobody retries.
func mix(target string) openloop.Plan {
	plan := openloop.DefaultPlan(target)
	plan.Path = "/work?ms=%d"
	plan.OwnSource = strings.HasPrefix(target, "127.")
	plan.Slow = 500
	return plan
}

// begin sends that much of the mix without its slow connections, with other work if any is named.
func begin(t *testing.T, w *workload, rate float64, work ...openloop.Work) *openloop.Generator {
	t.Helper()
	plan := mix(w.target(t))
	plan.Rate, plan.Slow = rate, 0
	if len(work) > 0 {
		plan.Work = work
	}
	load, err := openloop.Start(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	return load
}

// roll replaces every pod of a workload n times under load: the mix, or what adapt makes of it.
func roll(t *testing.T, w *workload, n int, adapt ...func(*openloop.Plan)) rollout {
	t.Helper()
	seen := watch(t, w.ns)
	w.logErrors().start(t)
	follow := proxies(t, w)
	plan := mix(w.target(t))
	for _, change := range adapt {
		change(&plan)
	}
	load, err := openloop.Start(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	settle(t, load, plan)
	for range n {
		kubectl(t, "-n", w.ns, "rollout", "restart", "deployment/"+w.deployment.Name)
		w.rolledOut(t)
		follow()
		w.terminated(t)
	}
	result := rollout{load: load.Stop()}
	for _, pod := range seen.stopped() {
		result.stops = append(result.stops, seen.took(pod))
		result.last = append(result.last, seen.gone(t, pod, time.Second))
	}
	if want := n * int(*w.deployment.Spec.Replicas); len(result.stops) != want {
		t.Fatalf("saw %d pods stop, want %d", len(result.stops), want)
	}
	slices.Sort(result.stops)
	t.Log(result)
	return result
}

// proxies follows the proxies of a workload, those of new pods with every further call; a failed test shows what they logged.
func proxies(t *testing.T, w *workload) func() {
	t.Helper()
	known := map[string]bool{}
	more := func() {
		for _, pod := range running(t, w) {
			if !known[pod] {
				known[pod] = true
				follow(t, w.ns, pod, "proxy")
			}
		}
	}
	more()
	return more
}

// settle waits until the load has reached its full width: every slow connection is in use.
func settle(t *testing.T, load *openloop.Generator, plan openloop.Plan) {
	t.Helper()
	full := int(10*plan.Rate) + plan.Slow
	eventually(t, time.Minute, "the load runs at full width", func() bool { return load.Snapshot().Sent > full })
}

func lostNothing(t *testing.T, r rollout) {
	t.Helper()
	if r.load.Failed == 0 {
		return
	}
	t.Errorf("%d of %d requests failed, want 0", r.load.Failed, r.load.Requests)
	for _, failure := range r.load.Failures[:min(20, len(r.load.Failures))] {
		t.Logf("%+v", failure)
	}
	for _, pod := range r.last {
		for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			t.Logf("%s: %s restarted %d times, ended %v", pod.Name, s.Name, s.RestartCount, s.State.Terminated)
		}
	}
}

// Both shapes of pod, and what inject writes; in the long form the other shapes of deploy/ too: a rollout loses nothing.
// One after another, for the load's sake; in the short form other tests run meanwhile.
func TestRollout(t *testing.T) {
	if !*long {
		t.Parallel()
	}
	third := max(1, *rollouts/3)
	classic := third
	if *long {
		classic = *rollouts
	}
	t.Run("native, agent first", func(t *testing.T) {
		lostNothing(t, roll(t, load(t, "native", namespace(t, "restricted")), *rollouts))
	})
	t.Run("native, proxy first", func(t *testing.T) {
		onlyLong(t)
		lostNothing(t, roll(t, load(t, "native", namespace(t, "restricted")).proxyFirst(), *rollouts))
	})
	t.Run("classic", func(t *testing.T) {
		lostNothing(t, roll(t, load(t, "classic", namespace(t, "restricted")), classic))
	})
	t.Run("injected", func(t *testing.T) {
		lostNothing(t, roll(t, parse(t, injected(t, "testdata/ordinary"), namespace(t, "restricted")), third))
	})
	if !*long {
		return
	}
	t.Run("plain Envoy", func(t *testing.T) { // for teams without a mesh: mutual TLS from a Secret, admin on a Unix socket
		w, peer := mtls(t)
		lostNothing(t, roll(t, w, third, func(p *openloop.Plan) { p.TLS = peer }))
	})
	t.Run("gateway", func(t *testing.T) {
		service := load(t, "native", namespace(t, "restricted")).start(t)
		lostNothing(t, roll(t, load(t, "gateway", namespace(t, "restricted")).resolve(t, service), third))
	})
	t.Run("gateway, TLS passthrough", func(t *testing.T) { passthrough(t, third) })
}

// A gateway that hands TLS on unread has no requests to count, so its clients are, and nobody can ask them to move: those that
// end their connections by themselves lose nothing.
func passthrough(t *testing.T, n int) {
	t.Helper()
	service, peer := mtls(t)
	service.start(t)
	w := load(t, "gateway", namespace(t, "restricted")).resolve(t, service)
	lostNothing(t, roll(t, w, n, func(p *openloop.Plan) {
		p.Target, p.TLS = w.targets(t)[1], peer
		p.Rate, p.Slow, p.Clients = 50, 0, map[openloop.Client]float64{openloop.Fresh: 1}
	}))
}

// injected is what one command makes of an ordinary Deployment with Envoy.
func injected(t *testing.T, kustomization string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "run", "../../deploy/drainctl", "inject", "-f", "-",
		"--app-source=prometheus:http://127.0.0.1:8090/metrics#active_requests")
	cmd.Stdin = bytes.NewReader(kubectl(t, "kustomize", kustomization))
	var said bytes.Buffer
	cmd.Stderr = &said
	text, err := cmd.Output()
	t.Logf("drainctl inject: %s", &said)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What people run today, under the same load: printed, and shown to lose requests, or the rows above would prove nothing.
func TestRolloutWithoutAgent(t *testing.T) {
	onlyLong(t)
	for _, shape := range []string{"native", "classic"} {
		t.Run(shape+" nothing", func(t *testing.T) {
			losesSomething(t, roll(t, load(t, shape, namespace(t, "restricted")).withoutAgent(), 3))
		})
		t.Run(shape+" sleep 5", func(t *testing.T) {
			losesSomething(t, roll(t, load(t, shape, namespace(t, "restricted")).withoutAgent().sleeping(5), 3))
		})
	}
}

func losesSomething(t *testing.T, r rollout) {
	t.Helper()
	if r.load.Failed == 0 {
		t.Error("no request failed: the load does not reach the moments that matter")
	}
}

// The figures of the README: failures per 100,000 requests and seconds per stop, side by side in one run.
func TestRolloutTable(t *testing.T) {
	if *table == 0 {
		t.Skip("prints figures, decides nothing: -args -table=5")
	}
	row := func(shape, name string, adapt func(*workload)) {
		t.Run(shape+" "+name, func(t *testing.T) {
			w := load(t, shape, namespace(t, "restricted"))
			adapt(w)
			r := roll(t, w, *table)
			t.Logf("| %s | %s | %d | %d | %.0f | %.1f / %.1f / %.1f |", shape, name, r.load.Requests, r.load.Failed,
				float64(r.load.Failed)*1e5/float64(r.load.Requests),
				r.stops[0].Seconds(), r.stops[len(r.stops)/2].Seconds(), r.stops[len(r.stops)-1].Seconds())
		})
	}
	for _, shape := range []string{"native", "classic"} {
		row(shape, "nothing", func(w *workload) { w.withoutAgent() })
		row(shape, "sleep 5", func(w *workload) { w.withoutAgent().sleeping(5) })
		row(shape, "sleep 15", func(w *workload) { w.withoutAgent().sleeping(15) })
		row(shape, "drain-agent", func(*workload) {})
	}
}
