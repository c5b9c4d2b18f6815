package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/demo/balancer"
	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
	"github.com/drain-agent/drain-agent/scripts/load/openloop"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// Observe mode: hooks are answered as the sleeps were, nothing is done to Envoy, and the report tells what the clients lost.
func TestObserveModeReportsWhatWasLost(t *testing.T) {
	t.Parallel()
	u := start(t, setup{agent: []string{"--mode=observe", "--observe-sleep=app=2s"}})
	const clients = 20
	lost := make(chan time.Time, 100_000)
	var all sync.WaitGroup
	for range clients {
		all.Go(func() { u.untilRefused(lost) })
	}
	long := u.background("/work?ms=7000") // keeps the app alive with its listener closed
	u.busyFor(clients)
	u.stop()
	all.Wait()
	u.mustServe("long", <-long)
	v := u.verdict("clean")
	if held := u.held("app"); held < 2*time.Second || held > 6*time.Second { // the request takes 7 s
		t.Errorf("app's hook was held for %v, its sleep is 2 s", held)
	}
	said := map[string]bool{}
	for _, e := range u.events() {
		said[e.Action] = true
		if strings.Contains(e.Action, "healthcheck") || strings.Contains(e.Action, "drain_listeners") {
			t.Errorf("observe mode did %s", e.Action)
		}
	}
	if !said[timeline.WouldAnswer("app")] || !said[timeline.WouldAnswer("proxy")] {
		t.Errorf("no word of when the hooks would have been answered: %v", said)
	}
	close(lost)
	began, gone := lastLook(t, u.events())
	least, most := int64(0), int64(0)
	for at := range lost {
		if at.Before(began) {
			least++
		}
		if at.Before(gone) {
			most++
		}
	}
	sameLosses(t, v, least-clients, most+clients)
	u.inOrder("proxy hook_answered", "app hook_answered", "app sigterm", "proxy sigterm")
}

// untilRefused sends request after request on a kept-alive connection until nobody accepts one any more, and says when one failed.
func (u *under) untilRefused(lost chan<- time.Time) {
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1, Proxy: nil}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	for first := true; u.happened("proxy", pod.Exited) == 0; first = false {
		a := get(context.Background(), client, u.url(inbound, "/work?ms=20"))
		switch {
		case a.err != nil:
			return
		case a.status != http.StatusOK:
			lost <- a.at
			u.pause(20 * time.Millisecond)
		case first:
			u.served.Add(1)
		}
	}
}

// The demo's load on the demo's pod, which sleeps 5 s in every hook as people do today. What the verdict names on the proxy's side is
// what the clients had lost when the agent looked for the last time, but for a round trip.
func TestObserveModeOnTheDemosLoad(t *testing.T) {
	stage, err := demopod.Build(t.Context(), t.TempDir(), pod.Auto)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pod") //nolint:usetesting // short: a Unix socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	service, err := balancer.Listen(t.Context(), "127.0.0.1:0", balancer.KubeProxy())
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	var pods []*pod.Pod
	for _, name := range []string{"old", "new"} {
		manifest, err := stage.WithAgent("--mode=observe", "--observe-sleep=app=5s", "--observe-sleep=proxy=5s")
		if err != nil {
			t.Fatal(err)
		}
		p, err := stage.Start(t.Context(), dir, name, manifest)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		pods = append(pods, p)
	}
	old := pods[0]
	service.Add("old", demopod.Address(old, demopod.Inbound))
	plan := openloop.DefaultPlan(service.Addr())
	plan.Slow, plan.OwnSource = 300, true
	load, err := openloop.Start(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(3 * time.Second) // slow on purpose: connections settle on the pod, as in the demo
	service.Add("new", demopod.Address(pods[1], demopod.Inbound))
	deleted := time.Now()
	old.Delete(nil)
	service.Remove("old")
	if err := old.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	load.End()
	clients := load.Stop()
	events, v := demopod.Timeline(old)
	if v == nil {
		t.Fatal("no verdict")
	}
	t.Logf("of %d requests: %v; the generator was %.0f ms late at worst", clients.Requests, clients.ByKind, clients.LatestMS)
	began, gone := lastLook(t, events)
	least, most := int64(0), int64(0) // lost when the agent looked at Envoy for the last time
	for _, f := range clients.Failures {
		at := f.At.Add(time.Duration(f.AfterMS) * time.Millisecond)
		if at.After(deleted) && at.Before(began) {
			least++
		}
		if at.After(deleted) && at.Before(gone) {
			most++
		}
	}
	t.Logf("clients lost %d, %d to %d of them from the deletion to the agent's last look", clients.Failed, least, most)
	sameLosses(t, *v, least-20, most+20) // a round trip
}

// lastLook is when the agent began to read Envoy for the last time, and when it found it gone: it says so.
func lastLook(t *testing.T, events []timeline.Event) (began, gone time.Time) {
	t.Helper()
	for _, e := range slices.Backward(events) {
		var ago int64
		if _, text, ok := strings.Cut(e.Reason, "read last "); ok {
			if _, err := fmt.Sscanf(text, "%d ms ago", &ago); err == nil {
				return e.Time.Add(-time.Duration(ago) * time.Millisecond), e.Time
			}
		}
	}
	t.Fatal("the agent does not say when it read Envoy last")
	return began, gone
}

// sameLosses compares what the clients lost, as far as the agent can have seen it, with what the verdict names on the proxy's side.
func sameLosses(t *testing.T, v timeline.Verdict, least, most int64) {
	t.Helper()
	reported := int64(0)
	for what, n := range v.Cut {
		if side, _, _ := strings.Cut(what, " "); side == "proxy" {
			reported += n
		}
	}
	t.Logf("clients lost %d to %d, the agent reports %d: %v", least, most, reported, v.Cut)
	if reported == 0 {
		t.Fatal("nothing was lost: this load shows nothing")
	}
	if reported < least || reported > most {
		t.Errorf("clients lost %d to %d requests up to the agent's last look, the report says %d", least, most, reported)
	}
}
