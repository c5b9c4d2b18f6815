package main

import (
	"cmp"
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

// window is how long Envoy's main thread is watched.
const window = 8 * time.Second

// polls measures what the helpers' questions cost Envoy's main thread: one by one at three sizes of Envoy, and together as the
// helpers ask them while Envoy drains.
func (b *bench) polls(ctx context.Context) (all []figure, err error) {
	for _, clusters := range []int{5, 200, 1000} { // of about a hundred statistics each
		f, err := b.onePoll(ctx, clusters)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	variants := []variant{b.agent(), {who: "nobody asks", stage: b.stage, manifest: b.stage.Plain}} // a sleep asks nothing either
	managers, failed := b.gateways(ctx)
	if failed == nil { // our own figure does not depend on whether theirs could be built
		variants = append(variants, managers[1:3]...)
	}
	for _, size := range []struct {
		clusters int
		name     string
		goal     string
	}{{200, "20,000", ""}, {1000, "100,000", "≤ 5"}} {
		f := figure{Name: "Envoy's main thread while draining, " + size.name + " statistics", Unit: "% of a core", Goal: size.goal}
		for _, v := range variants {
			stage := *cmp.Or(v.stage, b.stage)
			stage.Bootstrap += extraClusters(size.clusters)
			v.stage = &stage
			r, err := b.sample(ctx, v, busyWhileStopping)
			if err != nil {
				return nil, err
			}
			f.Rows = append(f.Rows, r)
		}
		all = append(all, f)
	}
	return all, failed
}

// onePoll measures each helper's question at one Envoy.
func (b *bench) onePoll(ctx context.Context, clusters int) (figure, error) {
	stage := *b.stage
	stage.Bootstrap += extraClusters(clusters)
	stage.Isolate = pod.Ports // so that we can ask Envoy ourselves
	f := figure{Unit: "ms of Envoy's main thread", Rows: []row{{Who: "drain-agent"}, {Who: "Envoy Gateway"}, {Who: "Contour"}}}
	_, err := b.one(ctx, variant{stage: &stage, manifest: b.stage.Plain}, func(ctx context.Context, p *pod.Pod) (float64, error) {
		stats, err := countStats(ctx, p)
		f.Name = fmt.Sprintf("one poll at %d statistics", stats)
		for range b.runs {
			for i, question := range []string{
				`/clusters?format=json&filter=%5E%28app%29%24`,
				`/stats?filter=%5Elistener\..*\.downstream_cx_active%24&format=json`,
				`/stats/prometheus?filter=%5Ehttp\..*\.downstream_cx_active%24`,
			} {
				ms, pollErr := pollCost(ctx, p, question)
				if err = pollErr; err != nil {
					return 0, err
				}
				f.Rows[i].Samples = append(f.Rows[i].Samples, ms)
			}
		}
		return 0, err
	})
	return f, err
}

// pollCost asks for two seconds, because the kernel counts a thread's time in hundredths of one.
func pollCost(ctx context.Context, p *pod.Pod, question string) (float64, error) {
	before, err := threadTime(p.Pid("proxy"))
	if err != nil {
		return 0, err
	}
	asked := 0
	for began := time.Now(); time.Since(began) < 2*time.Second; asked++ {
		if err := get(ctx, "http://"+demopod.Address(p, 15000)+question); err != nil {
			return 0, err
		}
	}
	after, err := threadTime(p.Pid("proxy"))
	return milliseconds(after-before) / float64(asked), err
}

// busyWhileStopping returns the share of a core that Envoy's main thread used from 3 s after the pod's deletion on, a
// request under way. A pod whose Envoy has no hook is not deleted: it would stop.
func busyWhileStopping(ctx context.Context, p *pod.Pod) (float64, error) {
	request(ctx, p, 3*time.Second+window+3*time.Second)
	if p.Pid("agent")+p.Pid("manager") != 0 {
		p.Delete(nil)
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return 0, err
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

// threadTime returns the processor time that the main thread of a process has used.
func threadTime(pid int) (time.Duration, error) {
	return cpuTime(fmt.Sprintf("/proc/%d/task/%d/stat", pid, pid))
}

// cpuTime returns the processor time in the stat file of a process or of a thread.
func cpuTime(stat string) (time.Duration, error) {
	text, err := os.ReadFile(stat)
	if err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name before it may hold anything
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("read processor time from %s: %q", stat, text)
	}
	var ticks int64
	for _, field := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read processor time from %s: %w", stat, err)
		}
		ticks += n
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux architecture we run on
	return time.Duration(ticks) * tick, nil
}

func countStats(ctx context.Context, p *pod.Pod) (int, error) {
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
	return strings.Count(string(text), "\n"), err
}

// extraClusters returns the end of a bootstrap: the list of clusters goes on.
func extraClusters(n int) string {
	var all strings.Builder
	for i := range n {
		fmt.Fprintf(&all, `    - name: other-%d
      type: STATIC
      load_assignment:
        cluster_name: other-%d
        endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 192.0.2.1, port_value: 80}}}}]}]
`, i, i)
	}
	return all.String()
}
