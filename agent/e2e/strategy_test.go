package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Row 3: Envoy's default strategy, gradual over ten minutes, and fifty busy clients that keep their connections.
func TestGradualStrategyStillTellsEveryoneInTime(t *testing.T) {
	for _, s := range []shape{nativeAgentFirst, classic} {
		t.Run(string(s), func(t *testing.T) {
			t.Parallel()
			u := start(t, setup{shape: s, gradual: true})
			var clients sync.WaitGroup
			told := make([]time.Time, 50)
			for i := range told {
				clients.Go(func() { told[i] = u.busyClient(i) })
			}
			u.busyFor(len(told))
			u.Delete(nil)
			clients.Wait()
			u.wait()
			u.verdict("clean")
			var since time.Time
			for _, e := range u.events() {
				if e.To == "draining" && e.From != "draining" && since.IsZero() {
					since = e.Time
				}
			}
			for i, at := range told {
				if at.IsZero() || at.Sub(since) > 10*time.Second { // the strategy has ten minutes
					t.Errorf("client %d was told to close %v after draining began", i, at.Sub(since))
				}
			}
		})
	}
}

// busyFor waits until the app has served n clients at least once.
func (u *under) busyFor(n int) {
	u.t.Helper()
	u.until(fmt.Sprintf("%d connections", n), func() bool {
		return strings.Contains(u.status(), `"phase":"serving"`) && u.served.Load() >= int64(n)
	})
}

// busyClient sends request after request on one connection until it is told to close, and returns when that was.
func (u *under) busyClient(i int) time.Time {
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1, Proxy: nil}}
	defer client.CloseIdleConnections()
	for n := 0; ; n++ {
		a := get(context.Background(), client, u.url(inbound, "/work?ms=50"))
		if a.err != nil || a.status != http.StatusOK {
			u.t.Errorf("client %d: status %d, %v", i, a.status, a.err)
			return time.Time{}
		}
		if a.close {
			return a.at
		}
		if n == 0 {
			u.served.Add(1)
		}
	}
}

// Row 3, second half: an operator's drain closes kept-alive connections, undrain lets them live again.
func TestUndrainRestoresKeepAlive(t *testing.T) {
	t.Parallel()
	u := start(t, setup{gradual: true, uds: true})
	keepAlive := func() bool {
		a := u.keepAlive("/work?ms=1")
		u.mustServe("kept alive", a)
		return !a.close
	}
	if !keepAlive() {
		t.Fatal("connections are closed before anything was drained")
	}
	u.operate("drain", "--reason=test")
	u.until("Connection: close", func() bool { return !keepAlive() })
	if ready := u.admin("/ready"); ready != "DRAINING" {
		t.Errorf("envoy is %q in maintenance", ready)
	}
	client := &http.Client{}
	if a := get(t.Context(), client, u.url(agentPort, "/readyz")); a.status != http.StatusServiceUnavailable {
		t.Errorf("readyz %d in maintenance", a.status)
	}
	u.operate("undrain", "--reason=test")
	u.until("keep-alive", keepAlive)
	if a := get(t.Context(), client, u.url(agentPort, "/readyz")); a.status != http.StatusOK {
		t.Errorf("readyz %d after undrain", a.status)
	}
	u.stop()
	u.verdict("clean")
}

// keepAlive sends one request that asks for a kept-alive connection.
func (u *under) keepAlive(path string) answer {
	client := &http.Client{Transport: &http.Transport{Proxy: nil}}
	defer client.CloseIdleConnections()
	return get(u.t.Context(), client, u.url(inbound, path))
}
