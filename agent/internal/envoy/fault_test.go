package envoy_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
)

// The fakes in this file exist for faults that a real Envoy cannot be made to show.

const (
	info     = `{"version":"x/1.40.0/Clean/RELEASE/BoringSSL","state":"LIVE","uptime_current_epoch":"6s","command_line_options":{"drain_time":"600s"}}`
	statuses = `{"listener_statuses":[{"name":"in","local_address":{"socket_address":{"address":"0.0.0.0","port_value":8080}}}]}`
	static   = `{"configs":[{"listener":{"name":"in","traffic_direction":"INBOUND","address":{"socket_address":{"address":"0.0.0.0","port_value":8080}},
		"filter_chains":[{"filters":[{"typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix":"in","route_config":{"virtual_hosts":[{"routes":[{"route":{"cluster":"app"}}]}]}}}]}]}}]}`
	oneRequest = `{"cluster_statuses":[{"name":"app","host_statuses":[{"stats":[{"name":"rq_total","value":"7"},{"type":"GAUGE","name":"rq_active","value":"1"}]}]}]}`
	stats      = "http.in.downstream_rq_active: 2\nlistener.0.0.0.0_8080.downstream_cx_active: 3\n" +
		"http.in.downstream_cx_tx_bytes_buffered: 0\nhttp.in.downstream_rq_total: 20\nlistener.0.0.0.0_8080.downstream_cx_total: 30\n"
)

// fake answers like an idle Envoy with one inbound listener, except for the paths in broken.
type fake map[string]http.HandlerFunc

func (f fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.URL.Path
	switch r.URL.Path {
	case "/config_dump":
		key += "?resource=" + r.URL.Query().Get("resource")
	}
	if broken := f[key]; broken != nil {
		broken(w, r)
		return
	}
	reply, found := map[string]string{
		"/server_info": info, "/listeners": statuses, "/config_dump?resource=static_listeners": static, "/config_dump?resource=": `{"configs":[{"last_updated":"now"}]}`,
		"/config_dump?resource=dynamic_listeners": `{}`, "/clusters": oneRequest, "/stats": stats,
	}[key]
	if !found {
		http.NotFound(w, r)
		return
	}
	fmt.Fprint(w, reply)
}

func code(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }
}

// server is a fake whose faults a test may change.
type server struct{ now atomic.Pointer[fake] }

func (s *server) use(f fake) { s.now.Store(&f) }

func serve(t *testing.T, f fake) (*server, *envoy.Client) {
	t.Helper()
	s := new(server)
	s.use(f)
	listening := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.now.Load().ServeHTTP(w, r) }))
	t.Cleanup(listening.Close)
	return s, connect(t, listening.URL)
}

// RoundTrip answers at once, in the caller's goroutine: for bubbles, whose clock stands still while somebody waits for a socket.
func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	s.now.Load().ServeHTTP(w, r)
	resp := w.Result()
	resp.ContentLength = int64(w.Body.Len())
	return resp, nil
}

// inBubble runs a test in virtual time with an Envoy whose statistics cost that long, and counts their readings.
func inBubble(t *testing.T, cost time.Duration, says string, test func(t *testing.T, s *server, c *envoy.Client, dear fake, reads *int)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		dear := fake{"/stats": func(w http.ResponseWriter, _ *http.Request) {
			reads++
			<-time.After(cost)
			fmt.Fprint(w, says)
		}}
		s := new(server)
		s.use(fake{})
		test(t, s, envoy.Over(s), dear, &reads)
	})
}

// hangUp ends the reply in the middle, as an Envoy that dies.
func hangUp(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, body)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func TestLadder(t *testing.T) {
	t.Parallel()
	hidden := fake{"/stats": text("")}
	only := func(stat string) fake {
		return fake{"/clusters": code(403), "/stats": text(stat)}
	}
	never := maps.Clone(hidden)
	never["/clusters"] = text(`{}`)
	forbidden := fake{"/clusters": code(403), "/stats": code(403)}
	for name, test := range map[string]struct {
		always, later fake // how the fake is broken from the start, and after Describe
		rung          string
		want          drain.Count
		fails         envoy.Failure
	}{
		"all there is":               {nil, nil, "clusters+http", drain.Known(2), ""},
		"hidden stats":               {hidden, nil, "clusters", drain.Known(1), ""},
		"stats fail":                 {nil, fake{"/stats": code(500)}, "clusters", drain.Known(1), ""},
		"clusters forbidden":         {fake{"/clusters": code(403)}, nil, "http", drain.Known(2), ""},
		"clusters fail":              {nil, fake{"/clusters": code(500)}, "http", drain.Known(2), ""},
		"clusters without a name":    {nil, fake{"/clusters": text(`{"cluster_statuses":[{"host_statuses":[]}]}`)}, "http", drain.Known(2), ""},
		"clusters cut short":         {nil, fake{"/clusters": hangUp(oneRequest[:80])}, "http", drain.Known(2), ""},
		"no inbound cluster left":    {nil, fake{"/clusters": text(`{}`)}, "http", drain.Known(2), ""},
		"a gauge below zero":         {nil, fake{"/clusters": text(strings.ReplaceAll(oneRequest, `"1"`, `"18446744073709551615"`))}, "http", drain.Known(2), ""},
		"only connections":           {only("listener.0.0.0.0_8080.downstream_cx_active: 3\n"), nil, "listener_cx", drain.Known(3), ""},
		"only the server's total":    {only("server.total_connections: 5\n"), nil, "total_connections", drain.Known(5), ""},
		"a zero of the total is old": {only("server.total_connections: 0\n"), nil, "", drain.Count{}, envoy.Status},
		"nothing allowed":            {forbidden, nil, "", drain.Count{}, envoy.Status},
		"hidden, clusters cut short": {hidden, fake{"/clusters": hangUp(oneRequest[:80])}, "", drain.Count{}, envoy.Garbage},
		"hidden, clusters fail":      {hidden, fake{"/clusters": code(500)}, "", drain.Count{}, envoy.Status},
		"hidden, no cluster left":    {hidden, fake{"/clusters": text(`{}`)}, "", drain.Count{}, ""},
		"hidden, never a cluster":    {never, nil, "", drain.Count{}, ""},
		"hidden, clusters not JSON":  {hidden, fake{"/clusters": text(`app::default_priority::max_requests::1024`)}, "", drain.Count{}, envoy.Garbage},
		"hidden, JSON of no object":  {hidden, fake{"/clusters": text(`[]`)}, "", drain.Count{}, envoy.Garbage},
		"hidden, goes on after it":   {hidden, fake{"/clusters": text(oneRequest + `{}`)}, "", drain.Count{}, envoy.Garbage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken := maps.Clone(test.always)
			server, c := serve(t, broken)
			describe(t, c)
			later := maps.Clone(test.always)
			if later == nil {
				later = fake{}
			}
			maps.Copy(later, test.later)
			server.use(later)
			s := c.Sample(t.Context())
			if s.Rung != test.rung || s.InFlight != test.want || s.Failure != test.fails || (s.Err != nil) == s.InFlight.Known {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestStatisticsCutShort hangs up in the middle of the statistics: what did not come is not zero, however the end of an answer is marked.
func TestStatisticsCutShort(t *testing.T) {
	t.Parallel()
	half := stats[:strings.Index(stats, "listener")]
	raw := func(headers, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n%s\r\n\r\n%s", headers, body)
		}
	}
	for name, cut := range map[string]http.HandlerFunc{
		"chunked, between lines":  hangUp(half),
		"chunked, in a number":    hangUp(strings.TrimSuffix(half, "2\n")),
		"with a length":           raw("Content-Length: 200", half),
		"neither, between lines":  raw("Connection: close", half),
		"neither, without a byte": raw("Connection: close", ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			only := fake{"/clusters": code(403)}
			server, c := serve(t, only)
			describe(t, c)
			server.use(fake{"/clusters": code(403), "/stats": cut})
			if s := c.Sample(t.Context()); s.InFlight.Known || s.Conns.Known || s.Err == nil {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestClustersThatAreNoLongerListed: an answer that lists none of the clusters that were asked for proves nothing.
func TestClustersThatAreNoLongerListed(t *testing.T) {
	t.Parallel()
	byHeader := strings.ReplaceAll(static, `"cluster":"app"`, `"cluster_header":"x-to"`)
	for name, config := range map[string]string{"named by a route": static, "chosen at run time": byHeader} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shows := text("cluster_manager.cluster_added: 1\n")
			idle := text(strings.ReplaceAll(oneRequest, `"1"`, `"0"`))
			server, c := serve(t, fake{"/stats": shows, "/config_dump?resource=static_listeners": text(config), "/clusters": idle})
			describe(t, c)
			until(t, c, "nothing", inFlight(0))
			for _, answer := range []string{`{}`, `{"cluster_statuses":[]}`, `{"other":[]}`} {
				server.use(fake{"/stats": shows, "/config_dump?resource=static_listeners": text(config), "/clusters": text(answer)})
				for range 3 {
					if s := c.Sample(t.Context()); s.InFlight.Known {
						t.Errorf("%s: %+v", answer, s)
					}
				}
			}
		})
	}
}

func TestSampleCounts(t *testing.T) {
	t.Parallel()
	_, c := serve(t, nil)
	s := c.Sample(t.Context()) // describes by itself
	if s.Conns != drain.Known(3) || s.NewConns != drain.Known(30) || s.Requests != drain.Known(20) || s.Took <= 0 || len(s.Demoted) != 0 || s.Changed {
		t.Errorf("%+v", s)
	}
}

// TestHTTPGaugesDoNotSpeakForTCP: with a TCP proxy among the inbound filters the http rung alone would miss its connections.
func TestHTTPGaugesDoNotSpeakForTCP(t *testing.T) {
	t.Parallel()
	tcp := strings.Replace(static, `"filter_chains":[`, `"filter_chains":[{"filters":[{"typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","cluster":"app"}}]},`, 1)
	server, c := serve(t, fake{"/config_dump?resource=static_listeners": text(tcp)})
	describe(t, c)
	server.use(fake{"/clusters": code(500)})
	if s := c.Sample(t.Context()); s.Rung != "listener_cx" || s.InFlight != drain.Known(3) {
		t.Errorf("%+v", s)
	}
}

func TestMissingSocketIsRefused(t *testing.T) {
	t.Parallel()
	c := connect(t, "unix://"+t.TempDir()+"/admin.sock")
	if s := c.Sample(t.Context()); s.Failure != envoy.Refused || s.InFlight.Known {
		t.Errorf("%+v", s)
	}
}

func TestForbiddenRungIsNamed(t *testing.T) {
	t.Parallel()
	_, c := serve(t, fake{"/clusters": code(403)})
	if s := c.Sample(t.Context()); len(s.Demoted) != 1 || !strings.Contains(s.Demoted[0], "clusters: ") || !strings.Contains(s.Demoted[0], "403") {
		t.Errorf("%q", s.Demoted)
	}
}

// TestDearRung makes the statistics cost more than 50 ms: they are demoted and named, still read beside the hosts as often as they may cost,
// and used when nothing else is left.
func TestDearRung(t *testing.T) {
	inBubble(t, 60*time.Millisecond, stats, func(t *testing.T, server *server, c *envoy.Client, dear fake, _ *int) {
		describe(t, c)
		dear["/clusters"] = text(strings.ReplaceAll(oneRequest, `"1"`, `"0"`))
		server.use(dear)
		until(t, c, "a demotion", func(s envoy.Sample) bool { return len(s.Demoted) == 1 })
		<-time.After(time.Minute)
		if s := c.Sample(t.Context()); s.InFlight != drain.Known(2) || !s.Conns.Known || s.Rung != "clusters+http" || !strings.Contains(s.Demoted[0], "50ms") {
			t.Errorf("%+v", s)
		}
		dear["/clusters"] = code(500)
		if s := c.Sample(t.Context()); s.InFlight != drain.Known(2) || s.Rung != "http" {
			t.Errorf("nothing else left: %+v", s)
		}
	})
}

// TestDearStatistics makes them cost 20 ms: while hosts have requests they are read for 1/100 of the time and their age is told, once
// some readings have shown what they cost and spent what was free; without requests they are read at once, and a zero is as old as they are.
func TestDearStatistics(t *testing.T) {
	const cost = 20 * time.Millisecond
	inBubble(t, cost, strings.Replace(stats, "_active: 2", "_active: 0", 1), func(t *testing.T, server *server, c *envoy.Client, dear fake, reads *int) {
		describe(t, c)
		server.use(dear)
		c.Sample(t.Context())
		for n := range 20 {
			settled, before := n > 5, *reads
			for began := time.Now(); *reads == before; <-time.After(25 * time.Millisecond) {
				s := c.Sample(t.Context())
				if s.InFlight != drain.Known(1) || s.Age != 0 || !s.Conns.Known || !s.NewConns.Known || !s.Requests.Known {
					t.Fatalf("%+v", s)
				}
				if *reads == before && (s.StatsAge == 0 || settled && (s.StatsEvery < 98*cost || s.StatsEvery > 100*cost)) {
					t.Errorf("statistics of age %v, read every %v", s.StatsAge, s.StatsEvery)
				}
				if since := time.Since(began); *reads != before && settled && (since < 98*cost || since > 102*cost) {
					t.Errorf("read again after %v, want %v", since, 100*cost)
				}
			}
		}
		dear["/clusters"] = text(strings.ReplaceAll(oneRequest, `"1"`, `"0"`))
		before := *reads
		if s := c.Sample(t.Context()); *reads == before || s.InFlight != drain.Known(0) || s.Age != 0 || s.StatsAge != 0 {
			t.Errorf("no request any more: %+v", s)
		}
		aged := until(t, c, "an aged zero", func(s envoy.Sample) bool { return s.StatsAge > 0 })
		if aged.InFlight != drain.Known(0) || aged.Age != aged.StatsAge || aged.Rung != "clusters+http" {
			t.Errorf("%+v", aged)
		}
	})
}

// TestHugeReply sends 100 MB of clusters that are not ours around one that is; reading it must not need the memory of it.
func TestHugeReply(t *testing.T) {
	cluster := `{"name":"other","host_statuses":[` + strings.Repeat(`{"stats":[{"name":"rq_active","value":"0","type":"GAUGE"}],"weight":1},`, 1000) + `{}]},`
	huge := func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"cluster_statuses":[`)
		for range hugeReply / len(cluster) {
			if _, err := io.WriteString(w, cluster); err != nil {
				return
			}
		}
		fmt.Fprint(w, strings.TrimPrefix(oneRequest, `{"cluster_statuses":[`))
	}
	server, c := serve(t, nil)
	describe(t, c)
	server.use(fake{"/clusters": huge})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if s := c.Sample(t.Context()); s.Rung != "clusters+http" || s.InFlight != drain.Known(2) {
		t.Errorf("%+v", s)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
		t.Errorf("%d KiB allocated in all", got>>10)
	}
}

func TestEndlessReplies(t *testing.T) {
	t.Parallel()
	endless := func(start, more string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, start)
			chunk := strings.Repeat(more, 1+(64<<10)/len(more))
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, chunk); err != nil {
					return
				}
			}
		}
	}
	for name, test := range map[string]struct {
		body http.HandlerFunc
		want envoy.Failure
	}{
		"clusters":         {endless(`{"cluster_statuses":[`, `{"name":"other"},`), envoy.Timeout},
		"a name":           {endless(`{"cluster_statuses":[{"name":"`, `x`), envoy.Garbage},
		"a host of ours":   {endless(`{"cluster_statuses":[{"name":"app","host_statuses":[{"stats":[`, `{},`), envoy.Garbage},
		"a skipped string": {endless(`{"other":"`, `x`), envoy.Garbage},
		"space":            {endless(`{`, ` `), envoy.Garbage},
		"depth":            {endless(`{"other":`, `[`), envoy.Garbage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, c := serve(t, fake{"/stats": text("")})
			describe(t, c)
			server.use(fake{"/clusters": test.body, "/stats": text("")})
			patience := 15 * time.Second
			if test.want == envoy.Timeout { // only the caller's context ends this one
				patience = 500 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if s := c.Sample(ctx); s.Failure != test.want || s.InFlight.Known {
				t.Errorf("%+v", s)
			}
		})
	}
}
