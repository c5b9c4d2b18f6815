package e2e

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// Observe mode: hooks are answered as the sleeps were, nothing is done to Envoy, and the report tells what the clients lost.
func TestObserveModeReportsWhatWasLost(t *testing.T) {
	t.Parallel()
	u := start(t, setup{agent: []string{"--mode=observe", "--observe-sleep=app=2s"}})
	const clients = 20
	var lost atomic.Int64
	var all sync.WaitGroup
	for range clients {
		all.Go(func() { u.untilRefused(&lost) })
	}
	long := u.background("/work?ms=7000") // keeps the app alive with its listener closed
	u.busyFor(clients)
	u.stop()
	all.Wait()
	u.mustServe("long", <-long)
	v := u.verdict("clean")
	if held := u.held("app"); held < 2*time.Second || held > 4*time.Second {
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
	if v.ArrivalsAfterRelease == nil {
		t.Fatal("arrivals are unknown")
	}
	reported := *v.ArrivalsAfterRelease
	for _, n := range v.Cut {
		reported += n
	}
	t.Logf("clients lost %d, the agent reports %d", lost.Load(), reported)
	if lost.Load() == 0 {
		t.Fatal("nothing was lost: this load shows nothing")
	}
	if diff := reported - lost.Load(); max(diff, -diff) > clients+lost.Load()/10 { // a round trip, and the last look
		t.Errorf("clients lost %d requests, the report says %d", lost.Load(), reported)
	}
	u.inOrder("proxy hook_answered", "app hook_answered", "app sigterm", "proxy sigterm")
}

// untilRefused sends request after request on a kept-alive connection until nobody accepts one any more, and counts what fails.
func (u *under) untilRefused(lost *atomic.Int64) {
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1, Proxy: nil}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	for first := true; u.happened("proxy", pod.Exited) == 0; first = false {
		a := get(context.Background(), client, u.url(inbound, "/work?ms=20"))
		switch {
		case a.err != nil:
			return
		case a.status != http.StatusOK:
			lost.Add(1)
			u.pause(20 * time.Millisecond)
		case first:
			u.served.Add(1)
		}
	}
}
