package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/conductor"
	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
	"github.com/drain-agent/drain-agent/agent/internal/server"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// prices are what each kind of question costs an Envoy's main thread.
type prices struct {
	whole, narrow, stats, dump time.Duration
	hidden                     bool          // the counters of changes too
	others                     int           // clusters that count, more than a filter can name
	absent                     time.Duration // so long nobody listens at first
	loads                      time.Duration // and so long it answers nobody then; the stop begins right after it, otherwise after a minute
}

// large is an Envoy with very many clusters, in virtual time: one thread answers one question after the other, each at its price.
type large struct {
	prices
	thread chan struct{}
	made   time.Time
	mu     sync.Mutex
	active int
	total  int
	conns  int64         // one for all requests, which stays: a client that opened another for each would be waited for by its gaps
	busy   time.Duration // since the stop began
}

func (l *large) RoundTrip(r *http.Request) (*http.Response, error) {
	cost, _ := l.answer(r)
	if time.Since(l.made) < l.absent {
		return nil, syscall.ECONNREFUSED
	}
	select {
	case l.thread <- struct{}{}:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	done := make(chan struct{})
	go func() { // it goes on also when nobody waits any more
		<-time.After(cost)
		l.mu.Lock()
		l.busy += cost
		l.mu.Unlock()
		<-l.thread
		close(done)
	}()
	select {
	case <-done:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	_, body := l.answer(r)
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r}, nil
}

func (l *large) answer(r *http.Request) (time.Duration, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch r.URL.Path {
	case "/server_info":
		return time.Millisecond, `{"version":"x/1.40.0/Clean","state":"LIVE","uptime_current_epoch":"3600s","command_line_options":{"drain_time":"600s"}}`
	case "/listeners":
		return time.Millisecond, `{"listener_statuses":[{"name":"in","local_address":{"socket_address":{"address":"0.0.0.0","port_value":8080}}}]}`
	case "/config_dump":
		switch r.URL.Query().Get("resource") {
		case "static_listeners":
			return 5 * time.Millisecond, `{"configs":[{"listener":{"name":"in","traffic_direction":"INBOUND","address":{"socket_address":{"address":"0.0.0.0","port_value":8080}},
		"filter_chains":[{"filters":[{"typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix":"in","codec_type":"AUTO","route_config":{"virtual_hosts":[{"routes":[{"route":{"cluster":"app"}}]}]}}}]}]}}]}`
		case "":
			return l.dump, `{"configs":[{"last_updated":"now"}]}`
		}
		return 5 * time.Millisecond, `{}`
	case "/clusters":
		cost, others := l.narrow, ""
		if r.URL.Query().Get("filter") == "" {
			cost = l.whole
			for i := range l.others {
				others += fmt.Sprintf(`{"name":"outbound|80||service-%d.namespace.svc.cluster.local","host_statuses":[{}]},`, i)
			}
		}
		return cost, fmt.Sprintf(`{"cluster_statuses":[%s{"name":"app","host_statuses":[{"address":{"socket_address":{"address":"127.0.0.1","port_value":8090}},
			"stats":[{"name":"rq_total","value":"%d"},{"type":"GAUGE","name":"rq_active","value":"%d"}]}]}]}`, others, l.total, l.active)
	case "/stats":
		if l.hidden {
			return l.stats, "server.uptime: 3600\nhttp2.pending_send_bytes: 0\n"
		}
		return l.stats, "cluster_manager.cluster_added: 5000\ncluster_manager.cluster_modified: 0\ncluster_manager.cluster_removed: 0\n" +
			"listener_manager.listener_added: 1\nlistener_manager.listener_modified: 0\nlistener_manager.listener_removed: 0\nserver.uptime: 3600\nserver.hot_restart_epoch: 0\nhttp2.pending_send_bytes: 0\n"
	}
	return time.Millisecond, "OK"
}

// request is one that takes so long.
func (l *large) request(took time.Duration) {
	l.mu.Lock()
	l.active++
	l.total++
	l.mu.Unlock()
	<-time.After(took)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active--
}

// outcome is what came of a stop.
type outcome struct {
	verdict  *timeline.Verdict
	held     time.Duration // the app's hook
	busy     time.Duration // Envoy, until its answer
	timeline string
}

// stop stops a pod whose Envoy is that large, while the traffic goes on.
func (l *large) stop(t *testing.T, traffic func(), args ...string) (out outcome) {
	t.Helper()
	c := loaded(t, append(args, "--control=")...)
	c.policy.Sources = nil
	synctest.Test(t, func(t *testing.T) {
		l.thread, l.made = make(chan struct{}, 1), time.Now()
		c.admin = envoy.Over(l)
		world, appEnds := l.world(c)
		var mu sync.Mutex
		recorder := timeline.NewRecorder(func(line timeline.Line) {
			mu.Lock()
			defer mu.Unlock()
			if out.verdict = line.Verdict; line.Verdict == nil {
				e := line.Event
				out.timeline += fmt.Sprintf("%d ms: %s > %s %s %s\n", e.ElapsedMS, e.From, e.To, e.Action, e.Reason)
			}
		})
		agent := conductor.New(conductor.Config{Policy: c.policy, World: world, Recorder: recorder, Metrics: server.NewMetrics(metricsOptions(c)), Poll: c.flags.Poll.v})
		var work sync.WaitGroup
		work.Go(func() { agent.Run(t.Context()) })
		if l.loads > 0 {
			l.thread <- struct{}{}
			<-time.After(l.absent + l.loads)
			<-l.thread
		} else {
			<-time.After(67 * time.Second)
		}
		began := time.Now()
		l.mu.Lock()
		l.busy, l.conns = 0, 1
		l.mu.Unlock()
		work.Go(traffic)
		for _, name := range []string{"app", "proxy", "agent"} {
			work.Go(func() {
				agent.Hook(t.Context(), name, false)
				switch name {
				case "app":
					out.held = time.Since(began)
					l.mu.Lock()
					out.busy = l.busy
					l.mu.Unlock()
					close(appEnds)
				case "agent":
					agent.Terminate()
				}
			})
		}
		work.Wait()
		<-time.After(time.Minute) // for what Envoy still answers
	})
	return out
}

// world is the pod around that Envoy.
func (l *large) world(c *config) (world conductor.World, appEnds chan struct{}) {
	appEnds = make(chan struct{})
	world = newWires(c).world()
	world.Apps, world.Journal = nil, ""
	world.Watches = []conductor.Watch{{Container: c.policy.Find("app"), Look: func(context.Context) (drain.Liveness, error) {
		select {
		case <-appEnds:
			return drain.Gone, nil
		default:
			return drain.Up, nil
		}
	}}}
	world.Sockets = func(context.Context) (conductor.SocketsLook, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return conductor.SocketsLook{Conns: drain.Known(l.conns), NewConns: drain.Known(1), Bytes: drain.Known(0), Stalled: drain.Known(0)}, nil
	}
	turn := make(chan struct{}, 1) // who waits for the client's own lock would stop the bubble's clock
	describe, look := world.Describe, world.Proxy
	world.Describe = func(ctx context.Context) (conductor.Description, error) {
		turn <- struct{}{}
		defer func() { <-turn }()
		return describe(ctx)
	}
	world.Proxy = func(ctx context.Context, since time.Time) conductor.ProxyLook {
		turn <- struct{}{}
		defer func() { <-turn }()
		return look(ctx, since)
	}
	return world, appEnds
}

// An Envoy whose answers are expensive is let go when its last request has ended, not at the deadline. Each kind of question spends
// 1/20 of its time, with one ahead: a zero that is disturbed once costs no wait, and what is disturbed more often waits until it is paid.
func TestLargeEnvoyIsLetGoInTime(t *testing.T) {
	const ms = time.Millisecond
	requests := func(each ...time.Duration) func(*large) {
		return func(l *large) {
			for i, took := range each {
				if i > 0 {
					<-time.After(300 * ms) // the zero is just being proved
				}
				l.request(took)
			}
		}
	}
	for name, cost := range map[string]prices{
		"as measured on a quiet machine":              {whole: 156 * ms, narrow: 5 * ms, stats: 20 * ms, dump: 100 * ms},
		"statistics given up":                         {whole: 250 * ms, narrow: 5 * ms, stats: 60 * ms, dump: 200 * ms},
		"half a second":                               {whole: 500 * ms, narrow: 15 * ms, stats: 80 * ms, dump: 800 * ms},
		"almost a second":                             {whole: 900 * ms, narrow: 30 * ms, stats: 120 * ms, dump: 1500 * ms},
		"longer than a reading may take":              {whole: 1300 * ms, narrow: 30 * ms, stats: 120 * ms, dump: 1500 * ms},
		"longer than an answer's first byte may take": {whole: 2500 * ms, narrow: 30 * ms, stats: 20 * ms, dump: 500 * ms, hidden: true},
		"changes hidden":                              {whole: 500 * ms, narrow: 15 * ms, stats: 20 * ms, dump: 200 * ms, hidden: true},
		"a gateway":                                   {whole: 500 * ms, narrow: 15 * ms, stats: 20 * ms, dump: 200 * ms, others: 300},
		"a gateway's statistics given up":             {whole: 1200 * ms, narrow: 20 * ms, stats: 100 * ms, dump: 400 * ms, others: 300},
	} {
		for kind, traffic := range map[string]struct {
			play   func(*large)
			ends   time.Duration // the last request
			zeroes int
		}{
			"idle":                            {requests(), 1500 * ms, 1},
			"one request":                     {requests(4000 * ms), 4000 * ms, 1},
			"another as the zero is seen":     {requests(4000*ms, 700*ms), 5000 * ms, 2},
			"three, each as the zero is seen": {requests(2000*ms, 2000*ms, 2000*ms), 6600 * ms, 3},
		} {
			answers := traffic.zeroes
			if cost.others > 0 { // who is busy is not known before the first
				answers++
			}
			paid := time.Duration(answers-2) * 20 * cost.whole
			if paid > 20*time.Second {
				continue // more than a stop can pay for
			}
			t.Run(name+"/"+kind, func(t *testing.T) {
				l := &large{prices: cost}
				out := l.stop(t, func() { traffic.play(l) })
				t.Logf("%s, the app was held for %v, longest by %q; Envoy was busy for %v of them", out.verdict.Outcome, out.held, out.verdict.HeldLongest, out.busy)
				if most := max(traffic.ends, paid) + time.Second + 2*cost.whole; out.verdict.Outcome != "clean" || out.held > most {
					t.Errorf("%s after %v, want clean after %v at most\n%s", out.verdict.Outcome, out.held, most, out.timeline)
				}
				each := cost.dump + cost.stats
				if most := min(3*out.held/20+2*(cost.whole+each), out.held/20+time.Duration(max(2, answers))*cost.whole+3*each); out.busy > most {
					t.Errorf("Envoy was busy for %v of %v, want %v at most", out.busy, out.held, most)
				}
			})
		}
	}
}

// An Envoy that is loading its configuration answers late whatever it is asked: that is no price. A stop right after it is
// as short as later, but for what was asked at that time and is still being paid for.
func TestLargeEnvoyThatHasJustStartedIsLetGoInTime(t *testing.T) {
	const ms = time.Millisecond
	for name, cost := range map[string]prices{
		"sidecar":         {whole: 156 * ms, narrow: 5 * ms, stats: 20 * ms, dump: 20 * ms},
		"gateway":         {whole: 156 * ms, narrow: 5 * ms, stats: 20 * ms, dump: 20 * ms, others: 300},
		"sidecar, later":  {whole: 156 * ms, narrow: 5 * ms, stats: 20 * ms, dump: 20 * ms, absent: 400 * ms},
		"gateway, later":  {whole: 156 * ms, narrow: 5 * ms, stats: 20 * ms, dump: 20 * ms, others: 300, absent: 400 * ms},
		"hidden counters": {whole: 156 * ms, narrow: 5 * ms, stats: 20 * ms, dump: 20 * ms, others: 300, absent: 400 * ms, hidden: true},
	} {
		for loads := 500 * ms; loads < 25*time.Second; loads *= 2 {
			for _, took := range []time.Duration{0, 4 * time.Second, 10 * time.Second} {
				t.Run(fmt.Sprintf("%s/loads for %v, a request of %v", name, loads, took), func(t *testing.T) {
					cost.loads = loads
					l := &large{prices: cost}
					out := l.stop(t, func() { l.request(took) })
					most := max(took, 1500*ms) + 2500*ms
					if loads > 10*time.Second { // whole answers failed meanwhile: the next comes 20 s after the last
						most += 6 * time.Second
					}
					if out.verdict.Outcome != "clean" || out.held > most {
						t.Errorf("%s after %v, want clean after %v at most\n%s", out.verdict.Outcome, out.held, most, out.timeline)
					}
				})
			}
		}
	}
}

// All questions together keep to 1/20 of Envoy's time: what the first of each kind cost is paid for in the course of the stop.
func TestLargeEnvoyKeepsItsShare(t *testing.T) {
	const ms = time.Millisecond
	for name, cost := range map[string]prices{
		"sidecar": {whole: 156 * ms, narrow: 5 * ms, stats: 40 * ms, dump: 20 * ms},
		"gateway": {whole: 156 * ms, narrow: 5 * ms, stats: 40 * ms, dump: 20 * ms, others: 300},
	} {
		for took, most := range map[time.Duration]float64{20 * time.Second: 7, 60 * time.Second: 6} {
			t.Run(fmt.Sprintf("%s/%v", name, took), func(t *testing.T) {
				l := &large{prices: cost}
				out := l.stop(t, func() { l.request(took) }, "--grace-period=90s")
				share := 100 * out.busy.Seconds() / out.held.Seconds()
				t.Logf("%s, the app was held for %v; Envoy was busy for %v of them, %.1f %%", out.verdict.Outcome, out.held, out.busy, share)
				if out.verdict.Outcome != "clean" || out.held > took+time.Second || share > most {
					t.Errorf("%s, held for %v and %.1f %% of Envoy's time, want clean, %v and %.1f %% at most", out.verdict.Outcome, out.held, share, took+time.Second, most)
				}
			})
		}
	}
}
