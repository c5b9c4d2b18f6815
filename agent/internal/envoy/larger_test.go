package envoy_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
	"github.com/drain-agent/drain-agent/scripts/envoy/envoytest"
)

// TestAnswerLargerThanTheBuffers: a client stands still in an answer that the app cannot get rid of. Nothing tells its request from one that
// is being worked on, and so it is one: a limit, in docs/reference/promises.md with the figure that this test logs.
func TestAnswerLargerThanTheBuffers(t *testing.T) {
	t.Parallel()
	var written atomic.Int64
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for piece := make([]byte, 16<<10); r.Context().Err() == nil; written.Add(int64(len(piece))) {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	}))
	t.Cleanup(app.Close)
	e := envoytest.Start(t, envoytest.Options{AppPort: app.Listener.Addr().(*net.TCPAddr).Port, Inbound: freePort(t)})
	c := connect(t, e.AdminURL)
	describe(t, c)
	small := func(_, _ string, raw syscall.RawConn) (err error) {
		if e := raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 64<<10) }); e != nil {
			return e
		}
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.Inbound(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := (&http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Control: small}).DialContext}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	before, same := int64(-1), 0
	for tick := time.Tick(25 * time.Millisecond); same < 40; <-tick { // as long as a second's readings nothing more goes
		if s := c.Sample(t.Context()); s.InFlight.Known && s.InFlight.N == 0 && s.Age == 0 {
			t.Fatalf("a request whose app has still to write is taken for none: %+v", s)
		}
		if now := written.Load(); now != before {
			before, same = now, 0
		}
		same++
	}
	t.Logf("the app is rid of %.1f MiB and writes no more", float64(written.Load())/(1<<20))
	cancel()
	reply.Body.Close()
	until(t, c, "nobody any more", func(s envoy.Sample) bool { return s.InFlight.Known && s.InFlight.N == 0 })
}

// A listener that has no name is bound under one that Envoy makes up, and found all the same; so are names with blanks and with what a
// pattern means otherwise.
func TestListenersAreFoundByTheirNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "in (a|b).*"} {
		app, ports := startApp(t), []int{freePort(t), freePort(t)}
		nameless := listener(name, ports[0], "INBOUND", httpFilter("in", obj{"cluster": "the + app"}, nil))
		if name == "" {
			delete(nameless, "name")
		}
		_, c := startWith(t, []obj{nameless, listener("out", ports[1], "OUTBOUND", httpFilter("out", obj{"cluster": "the + app"}, nil))}, []obj{cluster("the + app", app.port, nil)}, nil)
		if d := describe(t, c); !slices.Equal(d.InboundPorts, []uint16{uint16(ports[0])}) || !d.Directed {
			t.Errorf("%q: inbound ports %v, want %d: %+v", name, d.InboundPorts, ports[0], d)
		}
		for i := range 3 { // all clusters, then those that counted
			if s := c.Sample(t.Context()); s.InFlight != drain.Known(0) {
				t.Errorf("%q: reading %d: %+v", name, i, s)
			}
		}
	}
}
