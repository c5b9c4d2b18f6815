package e2e

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// Row 12: anybody in the cluster can call two hooks. Envoy is failed reversibly at most, and the next real drain works.
func TestStrangersCallTwoHooks(t *testing.T) {
	t.Parallel()
	u := start(t, setup{uds: true, agent: []string{"--stop=app=1s", "--stop=proxy=1s"}})
	var strangers sync.WaitGroup
	for _, name := range []string{"app", "proxy"} {
		strangers.Go(func() { u.mustServe("hook", u.call(context.Background(), name)) })
	}
	u.phase("draining", 1)
	strangers.Wait()
	u.until("the undo", func() bool { return u.admin("/ready") == "LIVE" })
	u.phase("serving", 1)
	u.verdict("aborted")
	for _, e := range u.events() {
		if strings.Contains(e.Action, "drain_listeners") {
			t.Error("something was done that cannot be undone")
		}
	}
	u.mustServe("afterwards", u.fresh(context.Background(), "/work?ms=1"))
	if a := u.keepAlive("/work?ms=1"); a.close {
		t.Error("connections are still closed after the undo")
	}
	long := u.background("/work?ms=2000")
	u.busy(1)
	u.stop()
	u.mustServe("in the real stop", <-long)
	u.verdict("clean")
	u.inOrder("app hook_answered", "app sigterm", "proxy hook_answered")
}

// Row 13: unknown names, duplicates, callers that hang up, two hundred at once.
func TestHooksOfAllKinds(t *testing.T) {
	t.Parallel()
	u := start(t, setup{})
	long := u.background("/work?ms=5000")
	u.busy(1)
	ctx, hangUp := context.WithCancel(context.Background())
	answers := make(chan answer, 120)
	var callers sync.WaitGroup
	for i := range 120 { // with those that hang up below the 160 connections that the agent keeps
		name := []string{"app", "proxy", "agent", "envoy", "sidecar"}[i%5]
		callers.Go(func() { answers <- u.call(context.Background(), name) })
		if i%4 == 0 {
			callers.Go(func() { u.call(ctx, name) }) // its answer is nobody's
		}
	}
	u.phase("announcing", 1)
	hangUp()
	u.Delete(nil)
	u.phase("draining", 1)
	metrics := u.metrics()
	if strings.Contains(metrics, "drain_agent_unknown_hooks_total 0") {
		t.Error("unknown hooks were not counted")
	}
	if n := u.happened("app", pod.HookAnswered); n != 0 {
		t.Error("app's hook was answered while its request ran")
	}
	served := <-long
	u.mustServe("in flight", served)
	callers.Wait()
	close(answers)
	for a := range answers {
		u.mustServe("hook", a)
		if a.at.Before(served.at) {
			t.Errorf("a hook was answered %v before the last request ended: %s", served.at.Sub(a.at), a.body)
		}
	}
	u.wait()
	u.verdict("clean")
	u.inOrder("app hook_answered", "app sigterm", "proxy hook_answered")
}
