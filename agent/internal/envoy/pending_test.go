package envoy_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
)

// TestPendingBytesHiddenOrNeverUsed: Envoy writes http2.pending_send_bytes with its first connection of HTTP/2. Where it is not there, its
// value is 0 as long as the gauge of requests is shown, which then stands for the bytes too, or where the bootstrap's stats_matcher shows
// it; else it may be hidden, and is unknown.
func TestPendingBytesHiddenOrNeverUsed(t *testing.T) {
	t.Parallel()
	without := func(prefix string) obj {
		return obj{"stats_config": obj{"stats_matcher": obj{"exclusion_list": obj{"patterns": []obj{{"prefix": prefix}}}}}}
	}
	for name, tt := range map[string]struct {
		matcher     obj
		never, used drain.Count // before anybody spoke HTTP/2, and when nobody does any more
		stands      func(envoy.Sample) bool
	}{
		"all is shown": {
			nil, drain.Known(0), drain.Known(0),
			func(s envoy.Sample) bool { return s.InFlight == drain.Known(0) && s.Bytes.N > 400<<10 },
		},
		"as Istio hides it": {
			hidden(),
			drain.Count{},
			drain.Count{},
			func(s envoy.Sample) bool { return s.InFlight == drain.Known(0) && !s.Bytes.Known },
		},
		"the gauge of requests is hidden": {
			without("http."), drain.Known(0), drain.Known(0),
			func(s envoy.Sample) bool { return s.InFlight == drain.Known(0) && s.Bytes.N > 400<<10 },
		},
		"as Istio hides it, but for the bytes": {
			hidden("http2."), drain.Known(0), drain.Known(0),
			func(s envoy.Sample) bool { return s.InFlight == drain.Known(0) && s.Bytes.N > 400<<10 },
		},
		"the bytes are hidden": {
			without("http2."), drain.Known(0), drain.Known(0),
			func(s envoy.Sample) bool { return s.InFlight.Known && s.InFlight.N >= 1 }, // they count as the request that they belong to
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 600<<10)) }))
			t.Cleanup(app.Close)
			port := freePort(t)
			_, c := startWith(t, []obj{listener("in", port, "INBOUND", httpFilter("in", obj{"cluster": "app"}, nil))},
				[]obj{cluster("app", app.Listener.Addr().(*net.TCPAddr).Port, nil)}, tt.matcher)
			idle := func(bytes drain.Count) func(envoy.Sample) bool {
				return func(s envoy.Sample) bool { return s.InFlight == drain.Known(0) && s.Bytes == bytes }
			}
			until(t, c, "nobody, ever", idle(tt.never))
			reply, err := slowReader().Get(fmt.Sprintf("http://127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			until(t, c, "an answer that its client does not take", tt.stands)
			reply.Body.Close()
			until(t, c, "nobody any more", idle(tt.used))
		})
	}
}

// Bytes that wait for a client's window are unknown while the statistics cannot be read, not gone; and where these take too long to be read
// once a second, they are read as often as they may cost, so that the bytes are known.
func TestUnreadBytesAreNotGone(t *testing.T) {
	says := strings.NewReplacer("active: 2", "active: 0", "active: 3", "active: 1").Replace(stats) + "http2.pending_send_bytes: 834465\n"
	play := func(t *testing.T, s *server, c *envoy.Client, dear fake, fails *bool, samples func(sample func() envoy.Sample)) {
		t.Helper()
		read := dear["/stats"]
		dear["/stats"] = func(w http.ResponseWriter, r *http.Request) {
			if *fails {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			read(w, r)
		}
		dear["/clusters"] = text(strings.ReplaceAll(oneRequest, `"1"`, `"0"`))
		s.use(dear)
		describe(t, c)
		samples(func() envoy.Sample {
			got := c.Sample(t.Context())
			if got.InFlight == drain.Known(0) && got.Bytes.Known && got.Bytes.N != 834465 {
				t.Fatalf("834465 bytes wait, and are said to be %d: %+v", got.Bytes.N, got)
			}
			return got
		})
	}
	t.Run("cannot be read", func(t *testing.T) {
		inBubble(t, 0, says, func(t *testing.T, s *server, c *envoy.Client, dear fake, _ *int) {
			fails := false
			play(t, s, c, dear, &fails, func(sample func() envoy.Sample) {
				if first := sample(); !first.Bytes.Known {
					t.Fatalf("the bytes can be read and are unknown: %+v", first)
				}
				<-time.After(time.Minute)
				fails = true
				if got := sample(); got.InFlight != drain.Known(0) || got.Bytes.Known {
					t.Errorf("the hosts have nothing, and nobody said how many bytes wait: %+v", got)
				}
			})
		})
	})
	t.Run("take long", func(t *testing.T) {
		const cost = 80 * time.Millisecond
		inBubble(t, cost, says, func(t *testing.T, s *server, c *envoy.Client, dear fake, reads *int) {
			fails := false
			play(t, s, c, dear, &fails, func(sample func() envoy.Sample) {
				began, unknown := time.Now(), time.Duration(0)
				for time.Since(began) < 30*time.Second {
					at := time.Now()
					got := sample()
					<-time.After(25 * time.Millisecond)
					if !got.Bytes.Known {
						unknown += time.Since(at)
					}
				}
				if unknown > time.Second {
					t.Errorf("for %v of 30 s nobody knew how many bytes wait", unknown)
				}
				if most := int(30*time.Second/(20*cost)) + 8; *reads > most { // the first are believed to cost less
					t.Errorf("%d readings of %v in 30 s, want %d at most", *reads, cost, most)
				}
			})
		})
	})
}

// slowReader is a client of HTTP/2 that takes no more than its small window before it reads.
func slowReader() *http.Client {
	transport := &http.Transport{Protocols: &http.Protocols{}, HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: transport}
}
