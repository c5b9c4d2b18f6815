package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// A farm makes the demo's pods, of a real agent, a real Envoy and the app, and stops them. What kubelet would tell the API server of them,
// it tells.
type farm struct {
	*server
	namespace string
	owner     metav1.OwnerReference
	stage     *demopod.Stage

	mu    sync.Mutex
	stops []*agentStop
}

// An agentStop is one pod, from when its agent's message could be had to when it was gone.
type agentStop struct {
	stopping

	told, gone time.Time
	unseen     bool // the controller was away meanwhile, or killed before it wrote
}

// TestStopsOfRealAgents stops pods of real agents and Envoys, idle ones, with a request in flight, with one that outlasts the grace period,
// with an agent that is killed, while the controller is killed at random: each has one row, and it says what the agent's own log says.
// STOPS says how many; more than the dozen take two or three seconds each:
//
//	STOPS=1000 go test -run TestStopsOfRealAgents -timeout 2h -v ./deploy/controller
func TestStopsOfRealAgents(t *testing.T) {
	s := apiServer(t)
	count := 12
	if text := os.Getenv("STOPS"); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil || count < 1 {
			t.Fatalf("STOPS=%s: want the number of pods to stop", text)
		}
	}
	kept := s.sqlite(t)
	controller := kept.begin()
	f := newFarm(t, s)
	over := f.work(t, count)
	random := rand.New(rand.NewPCG(11, 0)) //nolint:gosec // reproducible on purpose
	kills := 0
	for ended := false; !ended; {
		select {
		case err := <-over:
			if err != nil {
				t.Fatal(err)
			}
			ended = true
		case <-time.After(time.Duration(4+random.IntN(12)) * time.Second):
			away := time.Now()
			controller.kill()
			controller.stop()
			rows := rowsOf(t, kept, f.namespace)
			controller = kept.begin()
			f.awayFrom(away, time.Now(), rows)
			kills++
		}
	}
	eventually(t, "each pod has a row", func() error {
		if n := len(all(t, kept.api, f.namespace).Drains); n != count {
			return fmt.Errorf("%d rows of %d", n, count)
		}
		return nil
	})
	f.judge(t, all(t, kept.api, f.namespace), kills)
}

func (f *farm) judge(t *testing.T, rows drains, kills int) {
	t.Helper()
	pods, unseen := make([]*stopping, 0, len(f.stops)), map[*stopping]bool{}
	silent, away := 0, 0
	for _, p := range f.stops {
		pods = append(pods, &p.stopping)
		unseen[&p.stopping] = p.unseen
		switch {
		case p.message == "":
			silent++
		case p.unseen:
			away++
		}
	}
	verdicts, unknowns := compare(t, rows, pods, func(p *stopping) bool { return !unseen[p] })
	t.Logf("%d stops: %d verdicts, each as logged, and %d unknown; %d agents were killed, %d pods may have gone unseen in %d deaths of the controller", len(pods), verdicts, unknowns, silent, away, kills)
	if unknowns < silent {
		t.Errorf("%d unknown, but %d agents said nothing", unknowns, silent)
	}
}

func newFarm(t *testing.T, s *server) *farm {
	t.Helper()
	stage, err := demopod.Build(t.Context(), t.TempDir(), pod.Auto)
	if err != nil {
		t.Fatal(err)
	}
	f := &farm{server: s, namespace: s.namespace(t, nil, nil), stage: stage}
	f.owner = s.workload(t, f.namespace)
	return f
}

// work stops so many pods, some at a time, and says in the end what went wrong.
func (f *farm) work(t *testing.T, count int) <-chan error {
	t.Helper()
	turns, over := make(chan int), make(chan error, 1)
	failed := make(chan error, count)
	var workers sync.WaitGroup
	for range 4 + count/100 { // a stop is mostly waiting
		workers.Go(func() {
			for i := range turns {
				if err := f.one(t.Context(), i); err != nil {
					failed <- fmt.Errorf("pod %d: %w", i, err)
				}
			}
		})
	}
	go func() {
		for i := range count {
			turns <- i
		}
		close(turns)
		workers.Wait()
		close(failed)
		var all error
		for err := range failed {
			all = errors.Join(all, err)
		}
		over <- all
	}()
	return over
}

// one lives and dies.
func (f *farm) one(ctx context.Context, i int) error {
	p := &agentStop{stopping: stopping{Pod: startedPod(f.namespace, f.owner)}}
	if err := f.client.Create(ctx, p.Pod); err != nil {
		return err
	}
	running, err := f.simulate(ctx)
	if err != nil {
		return err
	}
	defer running.Close()
	up, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := running.WaitReady(up); err != nil {
		return err
	}
	if err := f.tell(ctx, p, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}); err != nil {
		return err
	}
	if takes := [...]int{0, 1500, 20_000}[i%3]; takes > 0 {
		if err := ask(ctx, running, takes); err != nil {
			return err
		}
	}
	if err := f.client.Delete(ctx, p.Pod); err != nil {
		return err
	}
	running.Delete(nil)
	if i%7 == 4 {
		if err := running.WaitFor(ctx, "a hook", func(events []pod.Event) bool {
			return slices.ContainsFunc(events, func(e pod.Event) bool { return e.Kind == pod.HookCalled })
		}); err != nil {
			return err
		}
		if err := running.Kill("agent"); err != nil {
			return err
		}
	}
	if err := running.Wait(ctx); err != nil {
		return err
	}
	p.message, p.line = running.TerminationMessage("agent"), lastVerdict(running.Log("agent"))
	return f.bury(ctx, p, int32(running.ExitCode("agent"))) //nolint:gosec // at most 255
}

// simulate starts a pod with ten seconds to stop, which a request of 20 s outlasts.
func (f *farm) simulate(ctx context.Context) (*pod.Pod, error) {
	manifest, err := f.stage.WithAgent()
	if err != nil {
		return nil, err
	}
	agent := &manifest.Spec.InitContainers[0]
	agent.Args[slices.Index(agent.Args, "--grace-period=60s")] = "--grace-period=10s"
	manifest.Spec.TerminationGracePeriodSeconds = new(int64(10))
	return pod.Start(ctx, manifest, pod.Options{Images: f.stage.Images, ConfigMaps: map[string]map[string]string{"envoy": {"envoy.yaml": f.stage.Bootstrap}}})
}

// ask sends a request that takes so many milliseconds and returns when the app has it; it is cut where it outlasts the grace period.
func ask(ctx context.Context, p *pod.Pod, takes int) error {
	go func() { _, _ = get(fmt.Sprintf("http://%s/work?ms=%d", demopod.Address(p, demopod.Inbound), takes)) }()
	for ctx.Err() == nil {
		if page, err := get("http://" + demopod.Address(p, 8090) + "/metrics"); err == nil && strings.Contains(page, "active_requests 1\n") {
			return nil
		}
		wait(ctx, 20*time.Millisecond)
	}
	return ctx.Err()
}

func lastVerdict(log []byte) (last string) {
	for line := range strings.SplitSeq(string(log), "\n") {
		if strings.Contains(line, `"msg":"verdict"`) {
			last = line
		}
	}
	return last
}

// bury tells the API server what kubelet tells it in the end.
func (f *farm) bury(ctx context.Context, p *agentStop, code int32) error {
	f.mu.Lock()
	p.told = time.Now()
	f.stops = append(f.stops, p)
	f.mu.Unlock()
	if err := f.tell(ctx, p, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: p.message, FinishedAt: metav1.Now()}}); err != nil {
		return err
	}
	if err := f.client.Delete(ctx, p.Pod, client.GracePeriodSeconds(0)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p.gone = time.Now()
	return nil
}

func (f *farm) tell(ctx context.Context, p *agentStop, state corev1.ContainerState) error {
	if err := f.client.Get(ctx, client.ObjectKeyFromObject(p.Pod), p.Pod); err != nil {
		return err
	}
	p.Status.Phase = corev1.PodRunning
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "drain-agent", Image: agentImage, State: state}}
	return f.client.Status().Update(ctx, p.Pod)
}

// awayFrom excuses the controller for what it cannot know: what happened while it was away, and what it had not written before.
func (f *farm) awayFrom(from, until time.Time, rows map[string]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.stops {
		before := p.told.Before(until) && (p.gone.IsZero() || p.gone.After(from))
		p.unseen = p.unseen || before || !rows[string(p.UID)] && p.told.Before(from)
	}
}
