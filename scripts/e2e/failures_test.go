//go:build e2e

package e2e

import (
	"fmt"
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

// Row 7: where nobody can be saved, the agent must not make it worse: a pod with it stops as soon as one without it, and loses
// no more. Three seconds are kubelet's own: it looks at its pods once a second, and what SIGTERM does not end ends by SIGKILL 2 s
// later, where a lone agent first waits a second for a second fact.
func TestNoLaterThanWithoutAgent(t *testing.T) {
	t.Parallel()
	ownNode(t)
	for _, way := range []struct {
		name     string
		underWay []time.Duration // when it begins; none where kubelet chooses the moment: a steady load instead
		stop     func(*testing.T, corev1.Pod)
	}{
		{"force", []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second}, func(t *testing.T, pod corev1.Pod) {
			kubectl(t, "-n", pod.Namespace, "delete", "pod", pod.Name, "--force", "--grace-period=0")
		}},
		{"shorter grace than configured", []time.Duration{500 * time.Millisecond, time.Second}, func(t *testing.T, pod corev1.Pod) {
			kubectl(t, "-n", pod.Namespace, "delete", "pod", pod.Name, "--grace-period=4", "--wait=false")
		}},
		{"hard eviction", nil, overfill},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			with, lost := stopTime(t, scratch(load(t, "native", namespace(t, "restricted"))), way.underWay, way.stop)
			without, lostWithout := stopTime(t, scratch(load(t, "native", namespace(t, "restricted"))).withoutAgent(), way.underWay, way.stop)
			t.Logf("with the agent %v, %d lost; without %v, %d lost", with, lost, without, lostWithout)
			if with > without+3*time.Second || lost > lostWithout {
				t.Errorf("%s: %v with the agent, %d lost; %v without, %d lost", way.name, with, lost, without, lostWithout)
			}
		})
	}
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

// stopTime is the time from a stop to the end of the last process of one of two pods, which has requests under way and one more
// that never ends, and how many were lost.
func stopTime(t *testing.T, w *workload, underWay []time.Duration, stop func(*testing.T, corev1.Pod)) (took time.Duration, lost int) {
	t.Helper()
	w.start(t)
	pod := pods(t, w.ns, w.selector())[0]
	var processes []int
	for _, container := range w.containers() {
		processes = append(processes, mainProcess(t, status(pod, container.Name).ContainerID))
	}
	target := net.JoinHostPort(pod.Status.PodIP, "8000")
	stuck(t, target)
	var answers []<-chan string
	for _, takes := range underWay {
		answers = append(answers, request(t, target, takes))
	}
	if underWay == nil {
		load := begin(t, w, 50, openloop.Work{Share: 0.8, Takes: 20 * time.Millisecond}, openloop.Work{Share: 0.2, Takes: 500 * time.Millisecond})
		defer func() { lost = load.Stop().Failed }()
	}
	stop(t, pod)
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

// The kernel kills the agent in mid-drain for lack of memory: the app is told to stop at once and still finishes what it has.
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
	if took := seen.took(pod.Name); took > 15*time.Second {
		t.Errorf("the pod took %v to stop, its longest request 8 s", took)
	}
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
			eventually(t, time.Minute, "the new pod's agent fails", func() bool {
				return slices.ContainsFunc(pods(t, w.ns, w.selector()), func(p corev1.Pod) bool {
					waiting := status(p, "drain-agent").State.Waiting
					return p.Name != old.Name && !ready(p) && waiting != nil &&
						slices.Contains([]string{"ErrImageNeverPull", "CrashLoopBackOff"}, waiting.Reason)
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
