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
	table    = flag.Int("table", 0, "rollouts per row of the table of TestRolloutTable, those with the agent at least 8; 0: no table")
)

func onlyLong(t *testing.T) {
	t.Helper()
	if !*long {
		t.Skip("belongs to the long form: -args -long")
	}
}

// A rollout is the result of replacing every pod several times under load.
type rollout struct {
	load      openloop.Report
	failedPer []float64    // of 100,000 requests, for each rollout
	stops     []float64    // seconds, of each pod
	last      []corev1.Pod // their last states
	deleted   []time.Time  // when each was first seen to go
}

// meanwhile says which pods were on their way out while a request failed: whether its loss has to do with a stop at all.
func (r rollout) meanwhile(f openloop.Failure) string {
	text := "no pod was on its way out"
	for i, pod := range r.last {
		began, ended := f.At.Sub(r.deleted[i]).Seconds(), f.At.Add(time.Duration(f.AfterMS)*time.Millisecond).Sub(r.deleted[i]).Seconds()
		if ended > -2 && began < r.stops[i]+5 {
			text = fmt.Sprintf("%s, sent %+.1f s, failed %+.1f s after the deletion of %s (%s), gone at %.1f s",
				strings.TrimPrefix(text, "no pod was on its way out"), began, ended, pod.Name, pod.Status.PodIP, r.stops[i])
		}
	}
	return strings.TrimPrefix(text, ", ")
}

// String says also how often a client helped itself, which is no retry: see openloop.
func (r rollout) String() string {
	return fmt.Sprintf("%d requests, %d failed (%s); seconds per stop min/median/max %.1f/%.1f/%.1f of %d; "+
		"calls moved by grpc-go %d, connections closed while idle %d, latest start %.0f ms",
		r.load.Requests, r.load.Failed, r.load.Kinds(), slices.Min(r.stops), median(r.stops), slices.Max(r.stops), len(r.stops),
		r.load.GRPCMoved, r.load.IdleClosed, r.load.LatestMS)
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

// roll replaces every pod of a workload n times under load: the mix, or what adapt makes of it. The test fails when the load
// was narrower than that. Where the machine stood still meanwhile, which proves nothing of the pods, they are replaced once more.
func roll(t *testing.T, w *workload, n int, adapt ...func(*openloop.Plan)) rollout {
	t.Helper()
	return rollAgain(t, w.logErrors().start(t), n, adapt...)
}

// rollAgain is roll of a workload that runs.
func rollAgain(t *testing.T, w *workload, n int, adapt ...func(*openloop.Plan)) rollout {
	t.Helper()
	result := replace(t, w, n, adapt...)
	if result.starved() {
		t.Logf("all that failed had waited for seconds: pods stood still on a busy node; once more. The first: %+v", result.load.Failures[0])
		result = replace(t, w, n, adapt...)
	}
	return result
}

// replace is roll, once, of a workload that runs.
func replace(t *testing.T, w *workload, n int, adapt ...func(*openloop.Plan)) rollout {
	t.Helper()
	seen := watch(t, w.ns)
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
	marks := []openloop.Snapshot{load.Snapshot()}
	for range n {
		kubectl(t, "-n", w.ns, "rollout", "restart", "deployment/"+w.deployment.Name)
		w.rolledOut(t)
		follow()
		w.terminated(t)
		marks = append(marks, load.Snapshot())
	}
	result := rollout{load: load.Stop()}
	marks[n] = load.Snapshot() // with what was under way
	result.failedPer = failedPer(marks)
	for _, pod := range seen.stopped() {
		result.stops = append(result.stops, seen.took(pod).Seconds())
		result.last = append(result.last, seen.gone(t, pod, time.Second))
		result.deleted = append(result.deleted, seen.deleted(pod))
	}
	if want := n * int(*w.deployment.Spec.Replicas); len(result.stops) != want {
		t.Fatalf("saw %d pods stop, want %d", len(result.stops), want)
	}
	t.Log(result)
	if narrow := result.load.Narrower(plan); len(narrow) > 0 {
		t.Errorf("the load was narrower than planned: %s", strings.Join(narrow, "; "))
	}
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
				follow(t, w.ns, pod, w.proxy)
			}
		}
	}
	more()
	return more
}

// stoodStill reports whether the machine stopped the clients themselves for seconds: what they lost then, mostly their own time limits,
// says nothing about the pods, and neither does what they did not lose.
func (r rollout) stoodStill() bool { return r.load.Failed > 0 && r.load.LatestMS > 2000 }

// starved reports whether whatever failed was late already, by more than a second: the pod that had it stood still, without a processor.
// Seen on two cores with a load above 20: Envoy's access log has 200 for each of these requests, their clients read EOF, several at the
// same moment, from pods that nobody stops too.
func (r rollout) starved() bool {
	for _, f := range r.load.Failures {
		if f.AfterMS-f.WorkMS < 1000 {
			return false
		}
	}
	return r.load.Failed > 0
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
	shown := map[string]int{}
	for _, failure := range r.load.Failures {
		if shown[failure.Kind]++; shown[failure.Kind] <= 5 { // of each kind: what is rare tells most
			t.Logf("%+v; %s", failure, r.meanwhile(failure))
		}
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

// Failures per 100,000 requests and seconds per stop, side by side in one run, and whether they meet the target. The rows of
// the agent are long enough for it: a rollout takes about 8,000 requests of native and 6,000 of classic.
func TestRolloutTable(t *testing.T) {
	if *table == 0 {
		t.Skip("takes 40 minutes: -args -table=5")
	}
	t.Log("| Shape | Pod | Rollouts | Requests | Failed | Per 100,000, median | Seconds per stop, min / median / max |")
	var rows []Row
	row := func(shape, name string, n int, adapt func(*workload)) {
		t.Run(shape+" "+name, func(t *testing.T) {
			w := load(t, shape, namespace(t, "restricted"))
			adapt(w)
			r := roll(t, w, n)
			done := Row{shape, name, r.load.Requests, r.load.Failed, r.failedPer, r.stops}
			t.Logf("%v\n%s", done, done.Line())
			rows = append(rows, done)
			if name == DrainAgent {
				lostNothing(t, r)
			}
		})
	}
	for _, shape := range []string{Native, Classic} {
		row(shape, Nothing, *table, func(w *workload) { w.withoutAgent() })
		row(shape, Sleep5, *table, func(w *workload) { w.withoutAgent().sleeping(5) })
		row(shape, Sleep15, *table, func(w *workload) { w.withoutAgent().sleeping(15) })
		row(shape, DrainAgent, max(8, *table), func(*workload) {})
	}
	for _, missed := range Missed(rows) {
		t.Error("drain-agent misses its target: " + missed)
	}
}
