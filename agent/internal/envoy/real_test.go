package envoy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
	"github.com/drain-agent/drain-agent/scripts/envoy/envoytest"
	"github.com/drain-agent/drain-agent/scripts/freeport"
)

// releases are the Envoys whose admin interfaces differ: 1.36.2 ignores the filter of /clusters and has no rq_pending_active.
var releases = []string{"1.36.2", "1.39.3", "1.40.0"}

func onEveryRelease(t *testing.T, test func(t *testing.T, version string)) {
	t.Helper()
	for _, version := range releases {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			test(t, version)
		})
	}
}

// slowApp answers /slow when the test lets it, and everything else at once.
type slowApp struct {
	port    int
	arrived chan struct{}
	release chan struct{}
}

func startApp(t *testing.T) *slowApp {
	t.Helper()
	app := &slowApp{arrived: make(chan struct{}, 100), release: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			app.arrived <- struct{}{}
			select {
			case <-app.release:
			case <-r.Context().Done():
			}
		}
	}))
	t.Cleanup(server.Close)
	app.port = server.Listener.Addr().(*net.TCPAddr).Port
	return app
}

func connect(t *testing.T, addr string) *envoy.Client {
	t.Helper()
	c, err := envoy.New(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func describe(t *testing.T, c *envoy.Client) envoy.Description {
	t.Helper()
	d, err := c.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// until samples until ok, or fails the test after 20 s.
func until(t *testing.T, c *envoy.Client, what string, ok func(envoy.Sample) bool) envoy.Sample {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		s := c.Sample(t.Context())
		if ok(s) {
			return s
		}
		select {
		case <-deadline:
			t.Fatalf("no sample with %s; the last one: %+v", what, s)
		case <-tick.C:
		}
	}
}

// withinASecond samples as often as the agent does in a second where it waits for a zero. How long that takes on a busy machine says
// nothing: readings are counted, and one that Envoy had no time to answer is none.
func withinASecond(t *testing.T, c *envoy.Client, what string, ok func(envoy.Sample) bool) {
	t.Helper()
	const poll = 25 * time.Millisecond
	tick := time.NewTicker(poll)
	defer tick.Stop()
	var s envoy.Sample
	for answered := 0; answered < int(time.Second/poll); <-tick.C {
		if s = c.Sample(t.Context()); ok(s) {
			return
		}
		if s.Failure != envoy.Timeout {
			answered++
		}
	}
	t.Fatalf("a second's readings, and none with %s; the last one: %+v", what, s)
}

func inFlight(n int64) func(envoy.Sample) bool {
	return func(s envoy.Sample) bool { return s.InFlight == drain.Known(n) }
}

// send starts a request that the app holds.
func (app *slowApp) send(t *testing.T, addr string) {
	t.Helper()
	conn := dial(t, addr)
	fmt.Fprintf(conn, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	app.wait(t)
}

// wait returns when a request has reached the app.
func (app *slowApp) wait(t *testing.T) {
	t.Helper()
	select {
	case <-app.arrived:
	case <-time.After(20 * time.Second):
		t.Fatal("the request did not reach the app")
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// freePort returns a port that was free a moment ago. Listeners with port 0 share their statistics with all others of that address.
func freePort(t *testing.T) int {
	t.Helper()
	ports, err := freeport.Find(1)
	if err != nil {
		t.Fatal(err)
	}
	return ports[0]
}

func port(t *testing.T, addr string) uint16 {
	t.Helper()
	_, digits, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n)
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	onEveryRelease(t, func(t *testing.T, version string) {
		app := startApp(t)
		options := envoytest.Options{Version: version, AppPort: app.port, Outbound: true, TCP: true, DrainStrategy: "immediate", DrainTime: 7 * time.Second}
		e := envoytest.Start(t, options)
		c := connect(t, e.AdminURL)
		d := describe(t, c)
		if d.Version != version || d.State != "LIVE" || d.Gradual || d.DrainTime != 7*time.Second || d.NodeID != "envoytest" {
			t.Errorf("%+v", d)
		}
		if short := d.Doubt(20 * time.Second); !strings.Contains(short, "after 7s new connections") || d.Doubt(7*time.Second) != "" {
			t.Errorf("of a drain of 20 s it says %q", short)
		}
		want := []uint16{port(t, e.Inbound()), port(t, e.Listeners["tcp"])}
		slices.Sort(want)
		if !slices.Equal(d.InboundPorts, want) || !slices.Equal(d.UpstreamPorts, []uint16{uint16(app.port)}) || !d.Directed || d.Guessed {
			t.Errorf("inbound ports %v, want %v; upstream %v, want %v; %+v", d.InboundPorts, want, d.UpstreamPorts, app.port, d)
		}
		if again := describe(t, connect(t, e.AdminURL)); again.Epoch != d.Epoch || d.Epoch == "" {
			t.Errorf("epoch of one process: %q, then %q", d.Epoch, again.Epoch)
		}
		if other := describe(t, connect(t, envoytest.Start(t, options).AdminURL)); other.Epoch == d.Epoch {
			t.Errorf("two processes have the epoch %q", d.Epoch)
		}
	})
}

func TestRequestsInFlight(t *testing.T) {
	t.Parallel()
	onEveryRelease(t, func(t *testing.T, version string) {
		for _, hidden := range []bool{false, true} {
			app := startApp(t)
			dir, err := os.MkdirTemp("", "uds") //nolint:usetesting // short: a socket's path holds 107 bytes
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			options := envoytest.Options{Version: version, AppPort: app.port, Inbound: freePort(t), Outbound: true, HideStats: hidden}
			if hidden { // both kinds of admin address, once each
				options.AdminUDS = filepath.Join(dir, "admin.sock")
			}
			e := envoytest.Start(t, options)
			c := connect(t, e.AdminURL)
			describe(t, c)
			rung := map[bool]string{false: "clusters+http", true: "clusters"}[hidden]

			before := c.Sample(t.Context())
			if before.InFlight != drain.Known(0) || before.Rung != rung || before.Conns.Known == hidden || before.NewConns.Known == hidden || before.Err != nil {
				t.Errorf("hidden %v, idle: %+v", hidden, before)
			}
			app.send(t, e.Inbound())
			app.send(t, e.Inbound())
			app.send(t, e.Listeners["outbound"]) // never counted
			until(t, c, "two requests", func(s envoy.Sample) bool {
				return s.InFlight == drain.Known(2) && s.Requests == drain.Known(before.Requests.N+2)
			})
			if !hidden {
				until(t, c, "two connections", func(s envoy.Sample) bool {
					return s.Conns == drain.Known(2) && s.NewConns == drain.Known(before.NewConns.N+2)
				})
			}
			close(app.release)
			if idle := until(t, c, "no request", inFlight(0)); idle.Rung != rung {
				t.Errorf("hidden %v: rung %q, want %q", hidden, idle.Rung, rung)
			}
		}
	})
}

// TestRequestWithoutAHost holds a request in Envoy that has no host yet: only the http gauge sees it.
func TestRequestWithoutAHost(t *testing.T) {
	t.Parallel()
	onEveryRelease(t, func(t *testing.T, version string) {
		e := envoytest.Start(t, envoytest.Options{Version: version, AppPort: startApp(t).port})
		c := connect(t, e.AdminURL)
		describe(t, c)
		conn := dial(t, e.Inbound())
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n") // headers that never end
		if s := until(t, c, "a request", func(s envoy.Sample) bool { return s.InFlight.N == 1 }); s.Rung != "clusters+http" {
			t.Errorf("%+v", s)
		}
	})
}

// TestSharedListenerStatsAreNotRead: inbound and outbound with port 0 share listener.127.0.0.1_0, so its connections cannot be told apart.
func TestSharedListenerStatsAreNotRead(t *testing.T) {
	t.Parallel()
	e := envoytest.Start(t, envoytest.Options{AppPort: startApp(t).port, Outbound: true})
	c := connect(t, e.AdminURL)
	describe(t, c)
	if s := c.Sample(t.Context()); s.Conns.Known || s.NewConns.Known || s.InFlight != drain.Known(0) {
		t.Errorf("%+v", s)
	}
}

func TestTCPConnectionsAreInFlight(t *testing.T) {
	t.Parallel()
	onEveryRelease(t, func(t *testing.T, version string) {
		e := envoytest.Start(t, envoytest.Options{Version: version, AppPort: startApp(t).port, TCP: true})
		c := connect(t, e.AdminURL)
		describe(t, c)
		conn := dial(t, e.Listeners["tcp"])
		until(t, c, "the proxied connection", inFlight(1))
		conn.Close()
		until(t, c, "nothing", inFlight(0))
	})
}

// ask sends one request on a kept-alive connection and reports whether Envoy said that it will close it.
func ask(t *testing.T, conn net.Conn, replies *bufio.Reader) (closes bool) {
	t.Helper()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(replies, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.Close
}

func TestDrainListeners(t *testing.T) {
	t.Parallel()
	onEveryRelease(t, func(t *testing.T, version string) {
		for _, test := range []struct {
			name                                       string
			options                                    envoytest.Options
			inboundOnly, inboundCloses, outboundCloses bool
		}{
			{"immediate", envoytest.Options{DrainStrategy: "immediate"}, true, true, false},
			{"gradual over 600 s", envoytest.Options{}, true, false, false},
			{"inbound only without directions", envoytest.Options{DrainStrategy: "immediate", Undirected: true}, true, false, false},
			{"all directions", envoytest.Options{DrainStrategy: "immediate", Undirected: true}, false, true, true},
		} {
			test.options.Version, test.options.AppPort, test.options.Outbound = version, startApp(t).port, true
			e := envoytest.Start(t, test.options)
			c := connect(t, e.AdminURL)
			if d := describe(t, c); d.Directed == test.options.Undirected {
				t.Errorf("%s: directed %v", test.name, d.Directed)
			}
			in, out := dial(t, e.Inbound()), dial(t, e.Listeners["outbound"])
			inReplies, outReplies := bufio.NewReader(in), bufio.NewReader(out)
			if ask(t, in, inReplies) || ask(t, out, outReplies) {
				t.Fatalf("%s: closes before the drain", test.name)
			}
			if err := c.DrainListeners(t.Context(), test.inboundOnly); err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
			if got := ask(t, in, inReplies); got != test.inboundCloses {
				t.Errorf("%s: inbound closes: %v, want %v", test.name, got, test.inboundCloses)
			}
			if got := ask(t, out, outReplies); got != test.outboundCloses {
				t.Errorf("%s: outbound closes: %v, want %v", test.name, got, test.outboundCloses)
			}
			if s := c.Sample(t.Context()); s.InFlight != drain.Known(0) {
				t.Errorf("%s: sample of a draining Envoy: %+v", test.name, s)
			}
		}
	})
}

func TestHealthCheckAndQuit(t *testing.T) {
	t.Parallel()
	onEveryRelease(t, func(t *testing.T, version string) {
		e := envoytest.Start(t, envoytest.Options{Version: version, AppPort: startApp(t).port})
		c := connect(t, e.AdminURL)
		ready := func(want bool) {
			t.Helper()
			if got, err := c.Ready(t.Context()); got != want || err != nil {
				t.Errorf("ready: %v, %v; want %v", got, err, want)
			}
		}
		ready(true)
		if err := c.FailHealthCheck(t.Context()); err != nil {
			t.Error(err)
		}
		ready(false)
		if d := describe(t, c); d.State != "DRAINING" {
			t.Errorf("state %s", d.State)
		}
		if err := c.PassHealthCheck(t.Context()); err != nil {
			t.Error(err)
		}
		ready(true)
		if err := c.Quit(t.Context()); err != nil {
			t.Error(err)
		}
		<-e.Exited
		if _, err := c.Ready(t.Context()); envoy.FailureOf(err) != envoy.Refused {
			t.Errorf("ready after the end: %v", err)
		}
		if err := c.Quit(t.Context()); envoy.FailureOf(err) != envoy.Refused {
			t.Errorf("quit after the end: %v", err)
		}
	})
}

func TestStoppedIsTimeoutAndKilledIsRefused(t *testing.T) {
	t.Parallel()
	for _, uds := range []string{"", "admin.sock"} {
		options := envoytest.Options{AppPort: startApp(t).port}
		if uds != "" {
			dir, err := os.MkdirTemp("", "uds") //nolint:usetesting // short: a socket's path holds 107 bytes
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			options.AdminUDS = filepath.Join(dir, uds)
		}
		e := envoytest.Start(t, options)
		c := connect(t, e.AdminURL)
		describe(t, c)
		e.Signal(syscall.SIGSTOP)
		if s := c.Sample(t.Context()); s.Failure != envoy.Timeout || s.Took > 10*time.Second || s.InFlight.Known || s.Rung != "" || s.Err == nil {
			t.Errorf("stopped: %+v", s)
		}
		e.Signal(syscall.SIGCONT)
		until(t, c, "a reading after SIGCONT", inFlight(0))
		e.Kill()
		if s := until(t, c, "an end", func(s envoy.Sample) bool { return s.Failure == envoy.Refused }); s.InFlight.Known || s.Conns.Known || s.Requests.Known {
			t.Errorf("killed: %+v", s)
		}
	}
}
