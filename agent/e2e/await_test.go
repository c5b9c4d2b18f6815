package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// pause lets real time pass: something must not happen meanwhile.
func (u *under) pause(d time.Duration) {
	u.t.Helper()
	select {
	case <-time.After(d):
	case <-u.t.Context().Done():
		u.t.Fatal("interrupted")
	}
}

// until waits for a condition of the pod, and fails the test after a while.
func (u *under) until(what string, holds func() bool) {
	u.t.Helper()
	deadline := time.After(40 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			u.t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

// phase waits until the agent's timeline shows that the phase was entered, n times in all.
func (u *under) phase(name string, n int) {
	u.t.Helper()
	u.until(fmt.Sprintf("phase %s, %d times", name, n), func() bool {
		count := 0
		for _, e := range u.events() {
			if e.To == name && e.From != name {
				count++
			}
		}
		return count >= n
	})
}

// busy waits until Envoy has n requests in flight, as the agent will see them.
func (u *under) busy(n int) {
	u.t.Helper()
	client := &http.Client{Timeout: time.Second}
	u.until(fmt.Sprintf("%d requests in the app", n), func() bool {
		return strings.Contains(get(context.Background(), client, u.url(8090, "/metrics")).body, fmt.Sprintf("active_requests %d\n", n))
	})
}

// stop deletes the pod and waits for its end.
func (u *under) stop() {
	u.t.Helper()
	u.Delete(nil)
	u.wait()
}

func (u *under) wait() {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	if err := u.Wait(ctx); err != nil {
		u.t.Fatalf("pod did not end: %v", err)
	}
}
