package openloop

import (
	"context"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/drain-agent/drain-agent/app/api"
)

// only returns a plan with one client and requests that take no time.
func only(client Client, target string) Plan {
	plan := DefaultPlan(target)
	plan.Clients = map[Client]float64{client: 1}
	plan.Work = []Work{{Share: 1, Takes: 0}}
	plan.Shared = 2
	plan.Timeout = 5 * time.Second
	return plan
}

// run sends the plan's requests until enough says so.
func run(t *testing.T, plan Plan, enough func(Snapshot) bool) Report {
	t.Helper()
	g, err := Start(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return enough(g.Snapshot()) })
	return g.Stop()
}

func await(t *testing.T, held func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !held() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("condition not met within 20 s")
		}
	}
}

func atLeast(n int) func(Snapshot) bool { return func(s Snapshot) bool { return s.Sent >= n } }

// server answers HTTP/1.1 and cleartext HTTP/2 on loopback and counts what arrives.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	requests int
	perConn  map[string]int // by the client's address
}

func newServer(t *testing.T, handle http.HandlerFunc) *server {
	t.Helper()
	s := &server{perConn: map[string]int{}}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests++
		s.perConn[r.RemoteAddr]++
		s.mu.Unlock()
		handle(w, r)
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// arrived returns the requests seen so far, and how many of them came on each connection.
func (s *server) arrived() (int, map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests, maps.Clone(s.perConn)
}

func (s *server) addr() string { return s.Listener.Addr().String() }

func ok(http.ResponseWriter, *http.Request) {}

// cut ends the connection without an answer, after the request has arrived.
func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestARequestIsNeverSentTwice(t *testing.T) {
	for _, client := range []Client{Fresh, Kept, HTTP2} {
		t.Run(string(client), func(t *testing.T) {
			s := newServer(t, cut)
			r := run(t, only(client, s.addr()), atLeast(50))
			if arrived, _ := s.arrived(); arrived != r.Requests || r.Failed != r.Requests {
				t.Errorf("sent %d, arrived %d, failed %d: want three equal numbers", r.Requests, arrived, r.Failed)
			}
		})
	}
}

func TestAReusedConnectionCutInMidRequestIsAFailure(t *testing.T) {
	var s *server
	s = newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if _, perConn := s.arrived(); perConn[r.RemoteAddr] == 2 { // net/http's Transport would send a GET again here, and nobody would know
			cut(w, r)
		}
	})
	r := run(t, only(Kept, s.addr()), atLeast(60))
	if arrived, _ := s.arrived(); arrived != r.Requests {
		t.Errorf("sent %d, arrived %d", r.Requests, arrived)
	}
	if r.ByKind["eof"] == 0 || !r.Failures[0].Reused {
		t.Errorf("failures %v, first %+v: want eof on a reused connection", r.ByKind, r.Failures)
	}
}

type countingService struct {
	api.UnimplementedDemoServiceServer
	mu    sync.Mutex
	calls int
	cut   bool
	conns *connections
}

func (s *countingService) handled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func (s *countingService) ProcessRequest(context.Context, *api.ProcessRequestRequest) (*api.ProcessRequestResponse, error) {
	s.mu.Lock()
	s.calls++
	s.mu.Unlock()
	if s.cut {
		s.conns.closeAll()
	}
	return &api.ProcessRequestResponse{}, nil
}

// connections is a listener that can cut what it accepted.
type connections struct {
	net.Listener
	mu   sync.Mutex
	open []net.Conn
}

func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.open = append(c.open, conn)
	}
	return conn, err
}

func (c *connections) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.open {
		conn.Close()
	}
	c.open = nil
}

func grpcServer(t *testing.T, s *countingService) (addr string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.conns = &connections{Listener: listener}
	server := grpc.NewServer()
	api.RegisterDemoServiceServer(server, s)
	go func() { _ = server.Serve(s.conns) }() // until Stop
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func TestGRPCCallsAreServed(t *testing.T) {
	s := new(countingService)
	r := run(t, only(GRPC, grpcServer(t, s)), atLeast(50))
	if r.Failed != 0 || s.handled() != r.Requests || r.GRPCMoved != 0 {
		t.Errorf("sent %d, handled %d, failed %v, moved %d", r.Requests, s.handled(), r.ByKind, r.GRPCMoved)
	}
}

func TestACutGRPCCallIsAFailureAndNotRepeated(t *testing.T) {
	s := &countingService{cut: true}
	r := run(t, only(GRPC, grpcServer(t, s)), atLeast(30))
	if r.ByKind["grpc-unavailable"] == 0 {
		t.Errorf("failures %v, want some grpc-unavailable", r.ByKind)
	}
	if handled := s.handled(); handled > r.Requests {
		t.Errorf("sent %d, handled %d: something was sent twice", r.Requests, handled)
	}
}

func TestConnectionCloseIsHonoured(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	r := run(t, only(Kept, s.addr()), atLeast(50))
	if r.Failed != 0 || r.ToldToGo != r.Requests {
		t.Errorf("failed %v, told to go %d of %d", r.ByKind, r.ToldToGo, r.Requests)
	}
	_, perConn := s.arrived()
	for addr, n := range perConn {
		if n > 1 {
			t.Errorf("%d requests from %s after Connection: close", n, addr)
		}
	}
}

func TestGoawayIsHonoured(t *testing.T) {
	// net/http answers HTTP/2 with GOAWAY where HTTP/1.1 would say Connection: close.
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	plan := only(HTTP2, s.addr())
	plan.Rate = 100
	r := run(t, plan, atLeast(50))
	// A request that crosses the GOAWAY of this server may stay unprocessed; that is all that may go wrong.
	if r.Failed != r.ByKind["goaway"] || r.Failed > 10 || r.Dials < 10 {
		t.Errorf("failures %+v, told to go %d, closed idle %d, dials %d", r.Failures, r.ToldToGo, r.IdleClosed, r.Dials)
	}
}

func TestAConnectionClosedWhileIdleIsDroppedSilently(t *testing.T) {
	s := newServer(t, ok)
	g, err := Start(t.Context(), only(Kept, s.addr()))
	if err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return g.Snapshot().Sent >= 20 && g.Snapshot().UnderWay == 0 })
	c := g.pool.take()
	if c == nil {
		t.Fatal("no idle connection")
	}
	s.CloseClientConnections()
	await(t, func() bool { return c.Err() != nil })
	g.pool.mu.Lock()
	g.pool.idle = append([]*conn{c}, g.pool.idle...)
	g.pool.mu.Unlock()
	sent := g.Snapshot().Sent
	await(t, func() bool { return g.Snapshot().Sent >= sent+20 })
	if r := g.Stop(); r.IdleClosed == 0 || r.Failed > 0 && r.ByKind["eof"]+r.ByKind["reset"] != r.Failed {
		t.Errorf("idle closed %d, failed %v: the closed connection was not dropped silently", r.IdleClosed, r.ByKind)
	}
}

func TestSlowConnectionsAreKeptAndEachUsedInItsTurn(t *testing.T) {
	s := newServer(t, ok)
	plan := only(Slow, s.addr())
	plan.Rate, plan.Clients, plan.Slow, plan.SlowEvery = 0, nil, 20, 50*time.Millisecond
	r := run(t, plan, atLeast(100))
	if _, perConn := s.arrived(); r.Failed != 0 || r.Dials != 20 || len(perConn) != 20 {
		t.Errorf("failed %v, dials %d, connections %d: want 20 connections", r.ByKind, r.Dials, len(perConn))
	}
}

func TestEveryConnectionHasASourceOfItsOwn(t *testing.T) {
	s := newServer(t, ok)
	plan := only(Fresh, s.addr())
	plan.OwnSource = true
	r := run(t, plan, atLeast(50))
	hosts := map[string]bool{}
	_, perConn := s.arrived()
	for addr := range perConn {
		host, _, _ := strings.Cut(addr, ":")
		hosts[host] = true
	}
	if r.Failed != 0 || len(hosts) != r.Requests {
		t.Errorf("failed %v, %d requests from %d addresses", r.ByKind, r.Requests, len(hosts))
	}
}

func TestARefusedConnectionIsAFailureOfItsKind(t *testing.T) {
	s := newServer(t, ok)
	s.Close()
	for _, client := range []Client{Fresh, Kept, HTTP2} {
		r := run(t, only(client, s.addr()), atLeast(10))
		if r.ByKind["dial-refused"] != r.Requests {
			t.Errorf("%s: failures %v of %d requests, want all dial-refused", client, r.ByKind, r.Requests)
		}
	}
}

func TestEqualSeedsSendTheSame(t *testing.T) {
	draw := func() (drawn []string) {
		rng := rand.New(rand.NewPCG(7, 0))
		for range 1000 {
			client, takes := pick(rng, DefaultPlan("127.0.0.1:1"))
			drawn = append(drawn, string(client)+takes.String())
		}
		return drawn
	}
	if !slices.Equal(draw(), draw()) {
		t.Error("two draws with one seed differ")
	}
}

func TestThePlanIsRefusedWithEverythingThatIsWrong(t *testing.T) {
	_, err := Start(t.Context(), Plan{Target: "nowhere", Path: "/", Rate: 1, Clients: map[Client]float64{"h3": 1}})
	for _, want := range []string{"target", "path", "timeout", "h3", "work"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %q", err, want)
		}
	}
}

func TestNarrowerThanPlanned(t *testing.T) {
	mixed := DefaultPlan("127.0.0.1:1") // 200 requests/s
	mixed.Slow = 500                    // and 50
	passing := mixed
	passing.Rate, passing.Slow, passing.Clients = 50, 0, map[Client]float64{Fresh: 1, Kept: 0}
	onlySlow := mixed
	onlySlow.Rate = 0
	all := map[Client]int{Fresh: 1, Kept: 1, HTTP2: 1, GRPC: 1, Slow: 1}
	for _, row := range []struct {
		name     string
		plan     Plan
		requests int // in 10 s
		served   map[Client]int
		want     string
	}{
		{"as planned", mixed, 2500, all, ""},
		{"a little less", mixed, 2250, all, ""},
		{"too few", mixed, 2249, all, "2249 requests in 10 s, planned were 2500"},
		{"two clients never served", mixed, 2500, map[Client]int{Fresh: 1, Kept: 1, HTTP2: 1}, "nothing of grpc was served; nothing of slow was served"},
		{"one client is all that was meant", passing, 500, map[Client]int{Fresh: 1}, ""},
		{"too few of one client", passing, 400, map[Client]int{Fresh: 1}, "400 requests in 10 s, planned were 500"},
		{"only slow ones meant", onlySlow, 500, map[Client]int{Slow: 1}, ""},
	} {
		r := Report{Requests: row.requests, Seconds: 10, Served: row.served}
		if got := strings.Join(r.Narrower(row.plan), "; "); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}

func TestOverTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(ok))
	defer s.Close()
	plan := only(Kept, s.Listener.Addr().String())
	plan.TLS = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	plan.TLS.ServerName = "example.com"
	if r := run(t, plan, atLeast(30)); r.Failed > 0 || r.Served[Kept] != r.Requests {
		t.Errorf("%d of %d failed: %v", r.Failed, r.Requests, r.Failures)
	}
	plan.TLS.RootCAs = nil
	if r := run(t, plan, atLeast(5)); r.Failed != r.Requests {
		t.Errorf("%d of %d failed although nobody vouches for the server", r.Failed, r.Requests)
	}
}
