package e2e

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// Row 4: one hook is a container restart. Nothing in Envoy changes and the hook is answered within restart-max.
func TestOneHookIsAContainerRestart(t *testing.T) {
	t.Parallel()
	u := start(t, setup{uds: true})
	long := u.background("/work?ms=4000")
	u.busy(1)
	u.Restart("app")
	u.until("the hook to be held", func() bool { return u.happened("app", pod.HookCalled) == 1 })
	if ready := u.admin("/ready"); ready != "LIVE" {
		t.Errorf("envoy is %q while one hook is held", ready)
	}
	u.until("the hook's answer", func() bool { return u.happened("app", pod.HookAnswered) == 1 })
	called, _ := u.when("app", pod.HookCalled)
	answered, _ := u.when("app", pod.HookAnswered)
	if held := answered.Sub(called); held < time.Second || held > 8*time.Second { // restart-max is 2 s; a hook taken for a deletion is held to its deadline
		t.Errorf("held for %v, want confirm-window to restart-max", held)
	}
	<-long // the app finishes it or not: that is the app's affair
	v := u.verdict("container_restart")
	if v.Trigger != "hook app" {
		t.Errorf("trigger %q", v.Trigger)
	}
	u.until("the app to be back", func() bool { return u.Ready() })
	if a := u.keepAlive("/work?ms=1"); a.close {
		t.Error("envoy closes connections after a container restart")
	}
	u.stop()
	u.verdict("clean")
}

// Row 4, a pod stop while the hook is held.
func TestPodStopWhileOneHookIsHeld(t *testing.T) {
	t.Parallel()
	u := start(t, setup{uds: true})
	long := u.background("/work?ms=3500")
	u.busy(1)
	stranger := make(chan answer, 1)
	go func() { stranger <- u.call(context.Background(), "app") }()
	u.until("the first hook", func() bool {
		return strings.Contains(u.status(), `"phase":"confirming"`) || strings.Contains(u.status(), `"phase":"holding"`)
	})
	u.stop()
	u.mustServe("in flight", <-long)
	u.mustServe("hook", <-stranger)
	u.verdict("clean")
}

// Row 5: the agent alone is stopped. It is gone in time, and Envoy is untouched or undone; the next drain works.
func TestAgentAloneIsStopped(t *testing.T) {
	before := map[string]func(u *under){
		"serving": func(*under) {},
		"maintenance": func(u *under) {
			u.operate("drain", "--reason=test")
			u.phase("maintenance", 1)
			u.until("envoy drains", func() bool { return u.admin("/ready") == "DRAINING" })
		},
		"draining": func(u *under) {
			go u.call(context.Background(), "app")
			go u.call(context.Background(), "proxy")
			u.phase("draining", 1)
			u.until("envoy drains", func() bool { return u.admin("/ready") == "DRAINING" })
		},
	}
	for name, prepare := range before {
		for sig, how := range map[syscall.Signal]string{syscall.SIGTERM: "SIGTERM", syscall.SIGKILL: "killed"} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				u := start(t, setup{uds: true, agent: []string{"--stop=app=500ms", "--stop=proxy=500ms"}})
				hold := u.background("/work?ms=3000")
				u.busy(1)
				prepare(u)
				was := u.admin("/ready")
				began := time.Now()
				if err := u.Signal("agent", sig); err != nil {
					t.Fatal(err)
				}
				u.until("the agent's end", func() bool { return u.happened("agent", pod.Exited) == 1 })
				if name != "draining" && time.Since(began) > 8*time.Second {
					t.Errorf("agent took %v to go", time.Since(began))
				}
				u.mustServe("in flight", <-hold)
				u.until("the agent to be back", func() bool { return u.happened("agent", pod.Started) == 2 })
				u.until("envoy to be as before, or undone", func() bool {
					now := u.admin("/ready")
					return name == "maintenance" && now == was || name != "maintenance" && now == "LIVE"
				})
				u.until("the agent to read envoy", func() bool { return strings.Contains(u.status(), `"known":true`) })
				if name == "maintenance" && !strings.Contains(u.status(), `"phase":"maintenance"`) {
					t.Errorf("maintenance is forgotten: %s", u.status())
				}
				u.stop()
				u.verdict("clean")
			})
		}
	}
}
