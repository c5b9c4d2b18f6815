package envoy_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
	"github.com/drain-agent/drain-agent/scripts/envoy/envoytest"
)

// TestAnswerThatItsClientDoesNotTake: an HTTP/2 client with a closed window keeps a request in Envoy's gauge that was answered in full.
// That is bytes, not a request; what else is under way is one all the same.
func TestAnswerThatItsClientDoesNotTake(t *testing.T) {
	t.Parallel()
	onEveryRelease(t, func(t *testing.T, version string) {
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 600<<10)) }))
		t.Cleanup(app.Close)
		e := envoytest.Start(t, envoytest.Options{Version: version, AppPort: app.Listener.Addr().(*net.TCPAddr).Port, Inbound: freePort(t)})
		c := connect(t, e.AdminURL)
		describe(t, c)
		early := dial(t, e.Inbound())
		fmt.Fprintf(early, "GET / HTTP/1.1\r\nHost: x\r\n") // headers that never end
		until(t, c, "the early request", inFlight(1))
		early.Close() // it ends without an answer
		until(t, c, "nothing", inFlight(0))

		reply, err := slowReader().Get("http://" + e.Inbound())
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		stands := func(s envoy.Sample) bool { return s.InFlight == drain.Known(0) && s.Bytes.N > 400<<10 }
		until(t, c, "bytes and no request", stands)

		other := dial(t, e.Inbound())
		fmt.Fprintf(other, "GET / HTTP/1.1\r\nHost: x\r\n")
		until(t, c, "the other request", func(s envoy.Sample) bool { return s.InFlight.N >= 1 })
		for range 20 {
			if s := c.Sample(t.Context()); s.InFlight == drain.Known(0) && s.Age == 0 {
				t.Fatalf("a request is under way beside the one that was answered: %+v", s)
			}
		}
		other.Close()
		reply.Body.Close()
		until(t, c, "neither", func(s envoy.Sample) bool { return s.InFlight == drain.Known(0) && s.Bytes == drain.Known(0) })
	})
}
