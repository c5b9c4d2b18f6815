package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// Row 10: request A ends, three seconds later B comes on a new connection, and connections keep arriving in between.
func TestTwoStepClient(t *testing.T) {
	t.Parallel()
	u := start(t, setup{})
	a := u.background("/work?ms=1000")
	u.busy(1)
	u.Delete(nil)
	u.mustServe("A", <-a)
	stop := time.After(3 * time.Second)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for arriving := true; arriving; {
		select {
		case <-stop:
			arriving = false
		case <-tick.C:
			u.mustServe("in between", u.fresh(context.Background(), "/work?ms=1"))
			if u.happened("app", pod.HookAnswered) != 0 {
				t.Fatal("the app was let go while connections still arrived")
			}
		}
	}
	b := u.fresh(context.Background(), "/work?ms=2000")
	u.mustServe("B", b)
	u.wait()
	u.verdict("clean")
	if answered, _ := u.when("app", pod.HookAnswered); answered.Before(b.at) {
		t.Errorf("app's hook answered %v before B ended", b.at.Sub(answered))
	}
}

// slow is one client with one kept-alive connection that it uses rarely. It never sends a request twice.
type slow struct {
	addr  string
	pause func() time.Duration // until the next use; negative: no further use
}

// run uses the connection until the server closes it or says so. A request that was sent and not answered is lost.
func (s slow) run(ctx context.Context, served, lost *atomic.Int64) error {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		if _, err := fmt.Fprint(conn, "GET /work?ms=1 HTTP/1.1\r\nHost: app\r\n\r\n"); err != nil {
			lost.Add(1)
			return nil
		}
		reply, err := http.ReadResponse(in, nil)
		if err != nil || reply.StatusCode != http.StatusOK {
			lost.Add(1)
			return nil
		}
		_, _ = io.Copy(io.Discard, reply.Body)
		served.Add(1)
		if reply.Close || !s.idle(ctx, conn, in) {
			return nil
		}
	}
}

// idle waits until the next use; it reports false when the server closed the connection meanwhile.
func (s slow) idle(ctx context.Context, conn net.Conn, in *bufio.Reader) bool {
	wait := s.pause()
	if wait < 0 {
		wait = time.Hour
	}
	_ = conn.SetReadDeadline(time.Now().Add(wait))
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_, err := in.Peek(1)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		return false
	}
	return conn.SetReadDeadline(time.Time{}) == nil
}

// Row 11: three hundred kept-alive connections that come back now and then, or never.
func TestPoolsOfIdleConnections(t *testing.T) {
	tests := map[string]struct {
		pause   func() time.Duration
		warmUp  time.Duration
		lost    int64         // at most
		holding time.Duration // at most; 0: not judged
		waiting time.Duration // at least: an app that stops gracefully hides what stopping early would cost another
	}{
		"reused every 8 to 12 s": {
			pause: func() time.Duration { return 8*time.Second + time.Duration(rand.Float64()*float64(4*time.Second)) }, warmUp: 32 * time.Second,
		},
		// the calibration table has a mean loss of 0.5 a stop for this pool: five is far outside
		"Poisson, mean 10 s": {
			pause: func() time.Duration { return time.Duration(rand.ExpFloat64() * float64(10*time.Second)) }, warmUp: 32 * time.Second, lost: 5, waiting: 8 * time.Second,
		},
		"never used again": {pause: func() time.Duration { return -1 }, warmUp: 20 * time.Second, holding: 4 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := start(t, setup{grace: 40})
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var served, lost atomic.Int64
			var clients sync.WaitGroup
			for range 300 {
				clients.Go(func() {
					if err := (slow{u.addr(inbound), tt.pause}).run(ctx, &served, &lost); err != nil {
						t.Error(err)
					}
				})
			}
			u.until("300 answers", func() bool { return served.Load() >= 300 })
			u.pause(tt.warmUp)
			u.stop()
			cancel()
			clients.Wait()
			v := u.verdict("clean")
			t.Logf("served %d, lost %d, app held %v, idle left %v", served.Load(), lost.Load(), u.held("app"), deref(v.IdleConnectionsLeft))
			if lost.Load() > tt.lost {
				t.Errorf("%d requests lost, at most %d", lost.Load(), tt.lost)
			}
			if u.held("app") < tt.waiting {
				t.Errorf("app held for %v, at least %v while its pool comes back", u.held("app"), tt.waiting)
			}
			if tt.holding > 0 && u.held("app") > tt.holding {
				t.Errorf("app held for %v, at most %v", u.held("app"), tt.holding)
			}
		})
	}
}

// Row 11, last part: an idle pod that is probed through Envoy is not waited for.
func TestProbesThroughEnvoy(t *testing.T) {
	for name, every := range map[string]time.Duration{"1": time.Second, "0.2": 5 * time.Second} {
		t.Run("every "+every.String(), func(t *testing.T) {
			t.Parallel()
			u := start(t, setup{agent: []string{"--background=" + name}})
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var probes sync.WaitGroup
			probes.Go(func() {
				tick := time.NewTicker(every)
				defer tick.Stop()
				for {
					select {
					case <-ctx.Done():
						return
					case <-tick.C:
						u.fresh(ctx, "/work?ms=1")
					}
				}
			})
			u.pause(16 * time.Second)
			u.stop()
			cancel()
			probes.Wait()
			u.verdict("clean")
			if held := u.held("app"); held > 8*time.Second { // propagation + 0.7 s on an idle machine; a probe taken for a client holds to quiet-max, 15 s
				t.Errorf("app held for %v", held)
			}
			u.noCap()
		})
	}
}

// held is how long the container's hook was held.
func (u *under) held(container string) time.Duration {
	called, _ := u.when(container, pod.HookCalled)
	answered, _ := u.when(container, pod.HookAnswered)
	return answered.Sub(called)
}

func deref(n *int64) any {
	if n == nil {
		return "unknown"
	}
	return *n
}
