package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// Clusters of the benchmark's Envoy: with about a hundred statistics each, 100,000 in all.
const clusters = 1000

// window is how long Envoy's main thread is watched.
const window = 8 * time.Second

// envoyThread measures how busy Envoy's main thread is, first idle, then while it is asked what drain helpers ask.
func (b *bench) envoyThread(ctx context.Context) ([]figure, error) {
	big := *b.stage
	big.Bootstrap += extraClusters()
	big.Isolate = pod.Ports // so that we can ask Envoy ourselves
	other := &bench{stage: &big, dir: b.dir, runs: min(b.runs, 3), pods: b.pods + 1000}

	stats := figure{Name: "statistics of that Envoy", Unit: "", Rows: []row{{Who: "all variants"}}}
	f := figure{Name: "Envoy's main thread while draining, 100,000 statistics", Unit: "% of a core", Goal: "≤ 5"}
	for _, v := range []struct {
		variant
		ask string
	}{
		{variant: other.agent()},
		{variant: variant{"nobody asks", other.stage.Plain, true}},
		{variant: variant{"GET /stats/prometheus, once a second", other.stage.Plain, true}, ask: "/stats/prometheus"},
		{variant: variant{"GET /stats?filter=downstream_cx_active, once a second", other.stage.Plain, true}, ask: "/stats?filter=downstream_cx_active"},
	} {
		r, err := other.sample(ctx, v.variant, func(ctx context.Context, p *pod.Pod) (float64, error) {
			if v.ask == "" && len(stats.Rows[0].Samples) == 0 {
				n, err := countStats(ctx, p)
				if err != nil {
					return 0, err
				}
				stats.Rows[0].Samples = append(stats.Rows[0].Samples, n)
			}
			return busyWhileStopping(ctx, p, v.ask)
		})
		if err != nil {
			return nil, err
		}
		f.Rows = append(f.Rows, r)
	}
	return []figure{f, stats}, nil
}

// busyWhileStopping returns the share of a core that Envoy's main thread used from 3 s after the pod's deletion on, a
// request under way. A pod without the agent is not deleted: it would stop, and only what is asked counts.
func busyWhileStopping(ctx context.Context, p *pod.Pod, ask string) (float64, error) {
	request(ctx, p, 3*time.Second+window+3*time.Second)
	if p.Pid("agent") != 0 {
		p.Delete(nil)
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return 0, err
	}
	asking, stop := context.WithCancel(ctx)
	defer stop()
	if ask != "" {
		go askEverySecond(asking, "http://"+demopod.Address(p, 15000)+ask)
	}
	before, err := threadTime(p.Pid("proxy"))
	if err != nil {
		return 0, err
	}
	if err := pause(ctx, window); err != nil {
		return 0, err
	}
	after, err := threadTime(p.Pid("proxy"))
	return 100 * (after - before).Seconds() / window.Seconds(), err
}

func askEverySecond(ctx context.Context, url string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		_ = get(ctx, url) // an Envoy that cannot answer is busy all the same
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// threadTime returns the processor time that the main thread of a process has used.
func threadTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, pid))
	if err != nil {
		return 0, fmt.Errorf("read the time of thread %d: %w", pid, err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name before it may hold anything
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("read the time of thread %d: %q", pid, text)
	}
	var ticks int64
	for _, field := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the time of thread %d: %w", pid, err)
		}
		ticks += n
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux architecture we run on
	return time.Duration(ticks) * tick, nil
}

func countStats(ctx context.Context, p *pod.Pod) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+demopod.Address(p, 15000)+"/stats", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return float64(strings.Count(string(text), "\n")), err
}

// extraClusters returns the end of a bootstrap: the list of clusters goes on.
func extraClusters() string {
	var all strings.Builder
	for i := range clusters {
		fmt.Fprintf(&all, `    - name: other-%d
      type: STATIC
      load_assignment:
        cluster_name: other-%d
        endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 192.0.2.1, port_value: 80}}}}]}]
`, i, i)
	}
	return all.String()
}
