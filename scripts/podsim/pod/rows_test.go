package pod_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// The tests of this file are what a real kubelet (1.34.4) was seen to do, one each.

// Native sidecars in init order proxy, agent, and the agent's hook waits for the proxy's end: it waits until the grace
// is over, because the proxy's SIGTERM comes only after the agent exited.
func TestAgentBehindProxyWaitsForItInVain(t *testing.T) {
	t.Parallel()
	agent := native(hooked(fakeContainer("agent", agentPort, env{"HOLD_agent": "port:15000"})))
	proxy := native(fakeContainer("proxy", 15000, nil))
	p := run(t, manifest(3, []corev1.Container{proxy, agent}, fakeContainer("app", 8080, nil)))
	ready(t, p)
	p.Delete(nil)
	events := finished(t, p)
	t0 := at(t, events, "", pod.T0, 1)
	between(t, "agent's hook abandoned", at(t, events, "agent", pod.HookAbandoned, 1)-t0, 3*time.Second, 8*time.Second)
	inOrder(t, events, "app exited", "agent hook_abandoned")
	between(t, "the proxy's SIGTERM", at(t, events, "proxy", pod.Sigterm, 1)-t0, 3*time.Second, 8*time.Second)
}

// The same in the order agent, proxy: the agent's hook is answered when the proxy is gone, and the agent stops last.
func TestAgentBeforeProxySeesItsEnd(t *testing.T) {
	t.Parallel()
	agent := native(hooked(fakeContainer("agent", agentPort, env{"HOLD_agent": "port:15000", "HOLD_app": "1s"})))
	proxy := native(fakeContainer("proxy", 15000, env{"ON_TERM": "300ms"}))
	p := run(t, manifest(20, []corev1.Container{agent, proxy}, hooked(fakeContainer("app", 8080, nil))))
	ready(t, p)
	p.Delete(nil)
	events := finished(t, p)
	inOrder(t, events, "t0", "app hook_answered", "app sigterm", "app exited", "proxy sigterm",
		"agent hook_answered", "agent sigterm", "agent exited", "finished")
	inOrder(t, events, "proxy exited", "agent sigterm")
	between(t, "the pod's end", at(t, events, "", pod.Finished, 1)-at(t, events, "", pod.T0, 1), 1300*time.Millisecond, 10*time.Second)
}

// kubectl delete --grace-period=4 with hooks held: SIGTERM to all at T0 + 4.0 s, SIGKILL about 2 s later.
func TestGraceOverMeansSigtermToAllAndSigkillTwoSecondsLater(t *testing.T) {
	t.Parallel()
	holds := env{"HOLD_agent": "1m", "HOLD_proxy": "1m", "HOLD_app": "1m", "ON_TERM": "ignore"}
	stubborn := env{"ON_TERM": "ignore"}
	p := run(t, manifest(30, []corev1.Container{
		native(hooked(fakeContainer("agent", agentPort, holds))), native(hooked(fakeContainer("proxy", 15000, stubborn))),
	}, hooked(fakeContainer("app", 8080, stubborn))))
	ready(t, p)
	p.Delete(new(4 * time.Second))
	events := finished(t, p)
	t0 := at(t, events, "", pod.T0, 1)
	for _, name := range []string{"app", "proxy", "agent"} {
		term := at(t, events, name, pod.Sigterm, 1)
		between(t, name+": SIGTERM", term-t0, 4*time.Second, 9*time.Second)
		between(t, name+": SIGKILL", at(t, events, name, pod.Sigkill, 1)-term, 2*time.Second, 7*time.Second)
		if code := p.ExitCode(name); code != 137 {
			t.Errorf("%s: exit code %d, want 137", name, code)
		}
	}
}

// A liveness stop of the app is held and the pod deleted meanwhile: the pod's hooks come only when that hold ends; the
// app is even started again first, then its hook is called again.
func TestDeletionWaitsBehindALivenessStop(t *testing.T) {
	t.Parallel()
	agent := native(hooked(fakeContainer("agent", agentPort, env{"HOLD_app": "3s"})))
	app := hooked(fakeContainer("app", 8080, nil))
	app.StartupProbe, app.LivenessProbe = patient(health(8080)), health(8080)
	p := run(t, manifest(30, []corev1.Container{agent}, app))
	ready(t, p)
	call(t, p, 8080, "/fail")
	until(t, p, "liveness stop", func(e []pod.Event) bool { return has(e, "app", pod.HookCalled) })
	p.Delete(nil)
	events := finished(t, p)
	inOrder(t, events, "app hook_called", "deleted", "app hook_answered", "app sigterm", "app exited", "app started",
		"t0", "app hook_called", "app hook_answered", "app sigterm", "app exited")
	between(t, "the agent's hook", at(t, events, "agent", pod.HookCalled, 1)-at(t, events, "app", pod.HookCalled, 1), 3*time.Second, 10*time.Second)
}

// A single replica is deleted, the app's hook held: the pod stays ready as long as its readiness probes succeed (that
// kept every connection alive), and goes not ready at the first failure.
func TestReadinessGoesOnDuringTermination(t *testing.T) {
	t.Parallel()
	agent := native(hooked(fakeContainer("agent", agentPort, env{"HOLD_app": "5s"})))
	agent.ReadinessProbe = health(agentPort)
	p := run(t, manifest(30, []corev1.Container{agent}, hooked(fakeContainer("app", 8080, nil))))
	ready(t, p)
	p.Delete(nil)
	until(t, p, "hooks", func(e []pod.Event) bool { return has(e, "app", pod.HookCalled) })
	if !p.Ready() {
		t.Error("the deletion alone made the pod not ready")
	}
	call(t, p, agentPort, "/fail")
	events := finished(t, p)
	inOrder(t, events, "app hook_called", "agent unhealthy", "pod_not_ready", "app hook_answered")
}

// Liveness of app and proxy fail in the same second: they are stopped one after the other.
func TestLivenessStopsAreMadeOneAfterTheOther(t *testing.T) {
	t.Parallel()
	agent := native(hooked(fakeContainer("agent", agentPort, env{"HOLD_app": "2s", "HOLD_proxy": "2s"})))
	proxy, app := native(hooked(fakeContainer("proxy", 15000, nil))), hooked(fakeContainer("app", 8080, nil))
	proxy.StartupProbe, proxy.LivenessProbe = patient(health(15000)), health(15000)
	app.StartupProbe, app.LivenessProbe = patient(health(8080)), health(8080)
	p := run(t, manifest(30, []corev1.Container{agent, proxy}, app))
	ready(t, p)
	call(t, p, 15000, "/fail")
	call(t, p, 8080, "/fail")
	restarted := func(events []pod.Event) bool {
		return count(events, "app", pod.Started) == 2 && count(events, "proxy", pod.Started) == 2
	}
	until(t, p, "both restarted", restarted)
	first, second := "proxy", "app"
	events := p.Events()
	if at(t, events, "app", pod.HookCalled, 1) < at(t, events, "proxy", pod.HookCalled, 1) {
		first, second = second, first
	}
	inOrder(t, events, first+" hook_called", first+" hook_answered", first+" exited", second+" hook_called", second+" hook_answered")
	if has(events, "", pod.T0) || has(events, "agent", pod.HookCalled) {
		t.Error("a restart touched the rest of the pod")
	}
}

// A sidecar that exits during termination is not started again; its liveness probe goes on once a second to the end.
func TestSidecarThatExitsDuringTerminationStaysDownAndIsProbedOn(t *testing.T) {
	t.Parallel()
	agent := native(hooked(fakeContainer("agent", agentPort, env{"HOLD_app": "5s"})))
	proxy := native(fakeContainer("proxy", 15000, nil))
	proxy.StartupProbe, proxy.LivenessProbe = patient(health(15000)), health(15000)
	p := run(t, manifest(30, []corev1.Container{agent, proxy}, hooked(fakeContainer("app", 8080, nil))))
	ready(t, p)
	p.Delete(nil)
	until(t, p, "hooks", func(e []pod.Event) bool { return has(e, "app", pod.HookCalled) })
	if err := p.Kill("proxy"); err != nil {
		t.Fatal(err)
	}
	events := finished(t, p)
	inOrder(t, events, "t0", "proxy exited", "proxy unhealthy", "proxy unhealthy", "proxy unhealthy", "app hook_answered")
	if n := count(events, "proxy", pod.Started); n != 1 {
		t.Errorf("the proxy was started %d times", n)
	}
}

// A classic agent without a hook gets SIGTERM about 50 ms before the other containers' hooks arrive.
func TestClassicAgentWithoutAHookGetsSigtermBeforeTheHooks(t *testing.T) {
	t.Parallel()
	agent := fakeContainer("agent", agentPort, env{"HOLD_app": "1s", "ON_TERM": "2s"})
	p := run(t, manifest(30, nil, agent, hooked(fakeContainer("app", 8080, nil))))
	ready(t, p)
	p.Delete(nil)
	events := finished(t, p)
	gap := at(t, events, "app", pod.HookCalled, 1) - at(t, events, "agent", pod.Sigterm, 1)
	between(t, "the app's hook", gap, 40*time.Millisecond, 10*time.Second)
	inOrder(t, events, "t0", "agent sigterm", "app hook_called", "app hook_answered", "app sigterm")
}

// Native agent whose image is missing: the app never starts.
func TestNativeAgentWithoutItsImageKeepsTheAppFromStarting(t *testing.T) {
	t.Parallel()
	agent := native(fakeContainer("agent", agentPort, nil))
	agent.Image = "nowhere"
	p := runWith(t, manifest(1, []corev1.Container{agent}, fakeContainer("app", 8080, nil)), quick)
	until(t, p, "pulls", func(e []pod.Event) bool { return count(e, "agent", pod.ImageMissing) >= 3 })
	if has(p.Events(), "app", pod.Started) {
		t.Error("the app was started")
	}
}

// Native agent in a crash loop: the app runs, the pod is not ready. Restarts back off.
func TestNativeAgentInACrashLoopKeepsThePodNotReady(t *testing.T) {
	t.Parallel()
	agent := native(fakeContainer("agent", 0, env{"EXIT": "1"}))
	agent.ReadinessProbe = health(agentPort) // a container without one would be ready for a moment each time
	p := runWith(t, manifest(1, []corev1.Container{agent}, fakeContainer("app", 8080, nil)), quick)
	until(t, p, "crashes", func(e []pod.Event) bool { return count(e, "agent", pod.Exited) >= 4 })
	if events := p.Events(); has(events, "", pod.PodReady) || !has(events, "app", pod.Started) || !has(events, "agent", pod.BackOff) {
		t.Error("want the app started, the agent backing off and the pod not ready")
	}
}

// Native agent whose startup probe waits for a later sidecar: Init:0/2 for ever.
func TestStartupProbeThatWaitsForALaterSidecarNeverEnds(t *testing.T) {
	t.Parallel()
	agent := native(fakeContainer("agent", agentPort, nil))
	agent.StartupProbe = patient(health(15000))
	p := run(t, manifest(1, []corev1.Container{agent, native(fakeContainer("proxy", 15000, nil))}, fakeContainer("app", 8080, nil)))
	until(t, p, "probes", func(e []pod.Event) bool { return count(e, "agent", pod.Unhealthy) >= 3 })
	if events := p.Events(); has(events, "proxy", pod.Started) || has(events, "app", pod.Started) {
		t.Error("a later container was started")
	}
}

// Classic agent whose image is missing: the app runs, the pod is not ready.
func TestClassicAgentWithoutItsImageKeepsThePodNotReady(t *testing.T) {
	t.Parallel()
	agent := fakeContainer("agent", agentPort, nil)
	agent.Image = "nowhere"
	p := runWith(t, manifest(1, nil, agent, fakeContainer("app", 8080, nil)), quick)
	until(t, p, "pulls", func(e []pod.Event) bool {
		return count(e, "agent", pod.ImageMissing) >= 3 && has(e, "app", pod.Started)
	})
	if has(p.Events(), "", pod.PodReady) {
		t.Error("the pod is ready")
	}
}

// quick makes retries fast where only their order matters.
var quick = pod.Options{Relist: 20 * time.Millisecond, BackOff: 50 * time.Millisecond}

// What kubelet sends, and that it does not look at the answer (the fake agent's is 503).
func TestHookRequestGoesToThePodAddressAndItsStatusIsIgnored(t *testing.T) {
	t.Parallel()
	agent := native(fakeContainer("agent", agentPort, nil))
	p := run(t, manifest(10, []corev1.Container{agent}, hooked(fakeContainer("app", 8080, nil))))
	ready(t, p)
	p.Delete(nil)
	events := finished(t, p)
	if has(events, "app", pod.HookFailed) || !has(events, "app", pod.HookAnswered) {
		t.Error("want an answered hook")
	}
	if log := string(p.Log("agent")); !strings.Contains(log, "hook app kube-lifecycle/1.34 secret "+p.IP().String()+":") {
		t.Errorf("the agent saw %s", log)
	}
}
