//go:build e2e

package e2e

import (
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

// A way to stop a pod that leaves no time to drain.
type way struct {
	name     string
	underWay []time.Duration              // when it begins; none where kubelet chooses the moment: a steady load instead
	spoil    func(*testing.T, corev1.Pod) // the pod with the agent, before; may be nil
	stop     func(*testing.T, corev1.Pod)
	lucky    bool // kubelet's own rhythm decides which requests end in time
}

// luck is how many more of the lost requests may be on one side by chance: two standard deviations.
func (w way) luck(lost int) float64 {
	if !w.lucky {
		return 0
	}
	return 2 * math.Sqrt(float64(lost))
}

// Row 7: where nobody can be saved, the agent must not make it worse: a pod with it stops as soon as one without it, and loses
// no more. Two seconds of the medians' difference are kubelet's own: it looks at its pods once a second, and a lone agent first
// waits a second for a second fact.
func TestNoLaterThanWithoutAgent(t *testing.T) {
	t.Parallel()
	ownNode(t)
	for _, way := range []way{
		{"force", []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second}, nil, func(t *testing.T, pod corev1.Pod) {
			kubectl(t, "-n", pod.Namespace, "delete", "pod", pod.Name, "--force", "--grace-period=0")
		}, true},
		{"shorter grace than configured", []time.Duration{500 * time.Millisecond, time.Second}, nil, fourSeconds, false},
		{"agent crash-loops", []time.Duration{500 * time.Millisecond, time.Second}, crashLoop, fourSeconds, false},
		{"hard eviction", nil, nil, overfill, true},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			var with, without time.Duration
			var lost, lostWithout int
			t.Run("pods", func(t *testing.T) { // returns when both have
				t.Run("with the agent", func(t *testing.T) {
					t.Parallel()
					with, lost = stopTime(t, scratch(load(t, "native", namespace(t, "restricted"))), way, way.spoil)
				})
				t.Run("without", func(t *testing.T) {
					t.Parallel()
					without, lostWithout = stopTime(t, scratch(load(t, "native", namespace(t, "restricted"))).withoutAgent(), way, nil)
				})
			})
			t.Logf("with the agent %v, %d lost; without %v, %d lost", with, lost, without, lostWithout)
			if with > without+2*time.Second || float64(lost) > float64(lostWithout)+way.luck(lost+lostWithout) {
				t.Errorf("%s: %v with the agent, %d lost; %v without, %d lost", way.name, with, lost, without, lostWithout)
			}
			if way.underWay == nil && lostWithout == 0 {
				t.Error("nothing was lost without the agent: the load did not meet the moment")
			}
		})
	}
}

func fourSeconds(t *testing.T, pod corev1.Pod) {
	t.Helper()
	kubectl(t, "-n", pod.Namespace, "delete", "pod", pod.Name, "--grace-period=4", "--wait=false")
}

// crashLoop kills the agent of a running pod until kubelet waits before it starts it again.
func crashLoop(t *testing.T, pod corev1.Pod) {
	t.Helper()
	killed := ""
	eventually(t, 2*time.Minute, "kubelet backs off from the agent", func() bool {
		pod := podNamed(t, pod.Namespace, pod.Name)
		now := status(pod, "drain-agent")
		if now.State.Running != nil && now.ContainerID != killed {
			killed = now.ContainerID
			signal(t, pod, "drain-agent", syscall.SIGKILL)
		}
		return now.State.Waiting != nil && now.State.Waiting.Reason == "CrashLoopBackOff"
	})
}

// scratch gives the pod a small volume that can be filled up from outside.
func scratch(w *workload) *workload {
	limit := resource.MustParse("1Mi")
	w.spec().Volumes = append(w.spec().Volumes, corev1.Volume{
		Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}},
	})
	app := w.container("app")
	app.VolumeMounts = append(app.VolumeMounts, corev1.VolumeMount{Name: "scratch", MountPath: "/scratch"})
	return w.replicas(2)
}

// overfill makes kubelet evict the pod with a grace of 1 s, as it does under disk pressure, and returns when it begins to.
func overfill(t *testing.T, pod corev1.Pod) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(volume(pod, "scratch"), "file"), make([]byte, 4<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, "kubelet evicts the pod", func() bool {
		events := kubectl(t, "-n", pod.Namespace, "get", "events", "--field-selector=reason=Evicted", "-o", "name")
		return len(events) > 0
	})
}

// stopTime is the median time of some stops of one of two pods, and how many requests were lost in all.
func stopTime(t *testing.T, w *workload, way way, spoil func(*testing.T, corev1.Pod)) (median time.Duration, lost int) {
	t.Helper()
	w.start(t)
	stops := 3
	if way.underWay == nil {
		stops = 1 // kubelet takes its time to notice
		load := begin(t, w, 50, openloop.Work{Share: 0.8, Takes: 20 * time.Millisecond}, openloop.Work{Share: 0.2, Takes: 500 * time.Millisecond})
		defer func() { lost = load.Stop().Failed }()
	}
	var took []time.Duration
	for range stops {
		w.rolledOut(t)
		name := running(t, w)[0]
		if spoil != nil {
			spoil(t, podNamed(t, w.ns, name))
		}
		one, missed := stopOne(t, w, podNamed(t, w.ns, name), way)
		took, lost = append(took, one), lost+missed
	}
	slices.Sort(took)
	return took[len(took)/2], lost
}

// stopOne is the time from a stop to the end of the last process of a pod, which has requests under way and one more that never
// ends, and how many of them were lost.
func stopOne(t *testing.T, w *workload, pod corev1.Pod, way way) (took time.Duration, lost int) {
	t.Helper()
	var processes []int
	for _, container := range w.containers() {
		if s := status(pod, container.Name); s.State.Running != nil {
			processes = append(processes, mainProcess(t, s.ContainerID))
		}
	}
	target := net.JoinHostPort(pod.Status.PodIP, "8000")
	stuck(t, target)
	var answers []<-chan string
	for _, takes := range way.underWay {
		answers = append(answers, request(t, target, takes))
	}
	way.stop(t, pod)
	began := time.Now()
	eventually(t, 90*time.Second, "every process of the pod has ended", func() bool {
		return !slices.ContainsFunc(processes, func(pid int) bool { return syscall.Kill(pid, 0) == nil })
	})
	took = time.Since(began)
	for _, answer := range answers {
		if <-answer != "200 OK" {
			lost++
		}
	}
	return took, lost
}

// The kernel kills the agent in mid-drain for lack of memory: the app is told to stop at once and still finishes what it has, as it
// would without an agent.
func TestAgentOutOfMemoryInMidDrain(t *testing.T) {
	t.Parallel()
	ownNode(t)
	w := load(t, "native", namespace(t, "restricted")).replicas(1).start(t)
	seen := watch(t, w.ns)
	pod := pods(t, w.ns, w.selector())[0]
	log := follow(t, w.ns, pod.Name, "drain-agent")
	answer := request(t, w.target(t), 8*time.Second)
	kubectl(t, "-n", w.ns, "scale", "deployment/"+w.deployment.Name, "--replicas=0")
	reaches(t, log, "draining")
	starve(t, pod, "drain-agent")
	if result := <-answer; result != "200 OK" {
		t.Errorf("the request under way ended with %s", result)
	}
	if end := status(seen.gone(t, pod.Name, 30*time.Second), "drain-agent").State.Terminated; end == nil || end.Reason != "OOMKilled" {
		t.Errorf("the agent's end in the pod's last status: %+v, want OOMKilled", end)
	}
	took := seen.took(pod.Name)
	if without := withoutAgent(t, 8*time.Second); took > without+2*time.Second {
		t.Errorf("the pod took %v to stop, one without an agent %v", took, without)
	}
}

// withoutAgent is how long a pod takes to stop that never had an agent, with a request of that length just begun.
func withoutAgent(t *testing.T, request time.Duration) time.Duration {
	t.Helper()
	w := load(t, "native", namespace(t, "restricted")).withoutAgent().replicas(1).start(t)
	seen := watch(t, w.ns)
	pod := pods(t, w.ns, w.selector())[0]
	answer := ask(t, http.DefaultClient, "http://"+w.target(t), request)
	kubectl(t, "-n", w.ns, "scale", "deployment/"+w.deployment.Name, "--replicas=0")
	seen.gone(t, pod.Name, time.Minute)
	<-answer
	return seen.took(pod.Name)
}

// request sends one that takes that long, and returns when the app has it; its status or error comes later.
func request(t *testing.T, target string, takes time.Duration) <-chan string {
	t.Helper()
	return ask(t, http.DefaultClient, "http://"+target, takes)
}

func ask(t *testing.T, client *http.Client, server string, takes time.Duration) <-chan string {
	t.Helper()
	result := make(chan string, 1)
	response, err := client.Get(fmt.Sprintf("%s/stream?ms=%d&chunks=2", server, takes.Milliseconds()/2))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer response.Body.Close()
		if n, err := countBytes(response.Body); err != nil || n != len("chunk 0\nchunk 1\n") {
			result <- fmt.Sprintf("%d bytes, %v", n, err)
			return
		}
		result <- response.Status
	}()
	return result
}

// reaches waits until the agent's log shows a phase.
func reaches(t *testing.T, log *follower, phase string) {
	t.Helper()
	eventually(t, time.Minute, "the agent is "+phase, func() bool {
		for _, e := range log.events() {
			if e.To == phase {
				return true
			}
		}
		return false
	})
}

// A new revision whose agent cannot run must not replace a pod that serves.
func TestBrokenAgentStallsTheRollout(t *testing.T) {
	t.Parallel()
	for _, broken := range []struct {
		name  string
		spoil func(*corev1.Container)
	}{
		{"image missing", func(c *corev1.Container) { c.Image = "drain-agent:absent" }},
		{"crash loop", func(c *corev1.Container) { c.Args = []string{"run", "--no-such-flag"} }},
	} {
		t.Run(broken.name, func(t *testing.T) {
			t.Parallel()
			w := load(t, "native", namespace(t, "restricted")).replicas(1).start(t)
			old := pods(t, w.ns, w.selector())[0]
			broken.spoil(w.container("drain-agent"))
			w.apply(t)
			eventually(t, 3*time.Minute, "the new pod's agent fails", func() bool {
				return slices.ContainsFunc(pods(t, w.ns, w.selector()), func(p corev1.Pod) bool {
					waiting := status(p, "drain-agent").State.Waiting
					return p.Name != old.Name && !ready(p) && waiting != nil &&
						slices.Contains([]string{"ErrImagePull", "ImagePullBackOff", "CrashLoopBackOff"}, waiting.Reason)
				})
			})
			if now := pods(t, w.ns, w.selector()); !slices.ContainsFunc(now, func(p corev1.Pod) bool {
				return p.Name == old.Name && p.DeletionTimestamp == nil && ready(p)
			}) {
				t.Error("the old pod does not serve any more")
			}
			staysOpen(t, w.target(t))
		})
	}
}
