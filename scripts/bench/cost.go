package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// longRequest is what is in flight while the processor time of a drain is counted.
const longRequest = 20 * time.Second

// cost measures what a drain with one request of 20 s in flight costs the helper, how soon after the request's last byte it lets the
// pod go, and its memory with strangers on its port meanwhile: all from the same stops, beside the shutdown managers.
func (b *bench) cost(ctx context.Context) ([]figure, error) {
	all := []figure{
		{Name: "a drain with one request of 20 s in flight: the helper's processor time, its hook's process too", Unit: "thousandths of a core", Goal: "≤ 20"},
		{Name: "the same stops: the request's last byte → the first container let go, settle of 200 ms taken off ours", Unit: "ms", Goal: "≤ 50 median, 150 worst"},
		{Name: "the same with 150 hooks of strangers and 256 slow readers on the helper's port: most resident", Unit: "MiB", Goal: "≤ 32"},
		{Name: "processor time of the first for each time that Envoy was read, all else in it", Unit: "ms", Goal: "≤ 0.5"},
		{Name: "one more reading of Envoy: what the same drain spends less with --poll=100ms, for each reading less", Unit: "ms", Goal: "≤ 0.5"},
	}
	add := func(v variant, d longDrain) error {
		rows, err := b.longDrains(ctx, v, d)
		for i, r := range rows {
			all[i].Rows = append(all[i].Rows, r)
		}
		return err
	}
	app := b.agent()
	app.helper = "agent"
	if err := add(app, longDrain{first: "app", spared: settle, crowded: crowd{9909, "/prestop/stranger", "/status"}}); err != nil {
		return nil, err
	}
	one, err := b.oneMore(ctx, longDrain{helper: "agent", first: "app"}, b.agent(), b.agent("--poll=100ms"))
	if err != nil {
		return nil, err
	}
	all[4].Rows = []row{one}
	gateways, err := b.gateways(ctx)
	if err != nil {
		return all, err // our own figures do not depend on whether theirs could be built
	}
	for i, crowded := range []crowd{{19002, "/shutdown/ready", "/healthz"}, {8091, "/shutdown", "/healthz"}} {
		gateways[i+1].mayLose = true
		if err := add(gateways[i+1], longDrain{first: "proxy", crowded: crowded}); err != nil {
			return all, err
		}
	}
	return all, nil
}

// oneMore returns, of pairs of drains, how much more the one that reads more often spends for each reading more.
func (b *bench) oneMore(ctx context.Context, d longDrain, often, rarely variant) (row, error) {
	each := func(v variant) (ms, rounds []float64, err error) {
		_, err = b.sample(ctx, v, func(ctx context.Context, p *pod.Pod) (float64, error) {
			share, _, err := d.measure(ctx, p)
			ms, rounds = append(ms, milliseconds(d.used)), append(rounds, d.rounds)
			return share, err
		})
		return ms, rounds, err
	}
	r := row{Who: often.who}
	much, many, err := each(often)
	if err != nil {
		return r, err
	}
	less, few, err := each(rarely)
	for i := range min(len(much), len(less)) {
		if more := many[i] - few[i]; more > 0 {
			r.Samples = append(r.Samples, (much[i]-less[i])/more)
		}
	}
	return r, err
}

// longDrains returns the processor time, the lag, and, of two more stops with strangers, the memory.
func (b *bench) longDrains(ctx context.Context, v variant, d longDrain) ([]row, error) {
	delays, peaks, rounds := row{Who: v.who}, row{Who: v.who}, row{Who: v.who}
	d.helper = v.helper
	alone := d
	alone.crowded = crowd{}
	used, err := b.sample(ctx, v, func(ctx context.Context, p *pod.Pod) (float64, error) {
		share, delay, err := alone.measure(ctx, p)
		if err == nil {
			delays.Samples = append(delays.Samples, delay)
			if alone.rounds > 0 {
				rounds.Samples = append(rounds.Samples, milliseconds(alone.used)/alone.rounds)
			}
		}
		return share, err
	})
	if err != nil {
		return nil, err
	}
	v.steady = true
	_, err = b.sample(ctx, v, func(ctx context.Context, p *pod.Pod) (float64, error) {
		_, _, err := d.measure(ctx, p)
		if err == nil {
			peaks.Samples = append(peaks.Samples, d.peak)
		}
		return 0, err
	})
	return []row{used, delays, peaks, rounds}, err
}

// longDrain is a pod stop with a long request in flight.
type longDrain struct {
	helper, first string        // the container that drains, and the one that it lets go first
	spared        time.Duration // no lag
	crowded       crowd
	peak          float64 // of the helper's resident memory, MiB
	used          time.Duration
	rounds        float64 // how often our agent read Envoy meanwhile; 0 for others
}

// measure returns what the helper used from the pod's deletion to the request's end, in thousandths of a core, and the time from
// that end to the first container's release in milliseconds.
func (d *longDrain) measure(ctx context.Context, p *pod.Pod) (share, delay float64, err error) {
	pid := p.Pid(d.helper)
	ended := request(ctx, p, longRequest)
	asked := pollsOf(ctx, p)
	before, _, err := spent(pid)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	p.Delete(nil)
	leave, err := d.crowded.come(ctx, p)
	if err != nil {
		return 0, 0, err
	}
	defer leave()
	end := <-ended
	if end.err != nil {
		return 0, 0, &lostError{end.err, p.Events()}
	}
	after, peak, err := spent(pid)
	if err != nil {
		return 0, 0, err
	}
	d.peak, d.used, d.rounds = peak, after-before, pollsOf(ctx, p)-asked
	at, err := eventOf(ctx, p, d.first, letGo()...)
	return 1000 * (after - before).Seconds() / end.at.Sub(began).Seconds(), milliseconds(at.Sub(end.at) - d.spared), err
}

// crowd is what strangers ask the port of a helper for.
type crowd struct {
	port       int // 0: nobody comes
	hook, page string
}

// come opens the connections of 150 hooks and of 256 readers that read nothing, when the drain has begun. It returns what closes them.
func (c crowd) come(ctx context.Context, p *pod.Pod) (leave func(), err error) {
	var all []net.Conn
	leave = func() {
		for _, conn := range all {
			_ = conn.Close()
		}
	}
	if c.port == 0 {
		return leave, nil
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return leave, err
	}
	ask := func(n, times int, path string) {
		for range n {
			conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", demopod.Address(p, c.port))
			if err != nil {
				continue // it does not take everybody
			}
			all = append(all, conn)
			_ = conn.(*net.TCPConn).SetReadBuffer(2304)
			_, _ = io.WriteString(conn, strings.Repeat("GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n", times)) // it may have been pushed out already
		}
	}
	ask(150, 1, c.hook)
	ask(256, 20, c.page)
	return leave, nil
}

var pollCount = regexp.MustCompile(`(?m)^drain_agent_proxy_poll_duration_seconds_count (\d+)$`)

// pollsOf returns how often the pod's agent has read Envoy; 0 where there is none.
func pollsOf(ctx context.Context, p *pod.Pod) float64 {
	if p.Pid("agent") == 0 {
		return 0
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+demopod.Address(p, 9909)+"/metrics", http.NoBody)
	if err != nil {
		return 0
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0 // and the figure has no row
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	found := pollCount.FindSubmatch(text)
	if found == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(string(found[1]), 64)
	return n
}

// spent returns the processor time and the most resident memory, in MiB, of all processes that run the program of this one: the managers
// poll Envoy in their hook, which is a process of its own, and wait for the file that it writes in another.
func spent(pid int) (used time.Duration, peak float64, err error) {
	program, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return 0, 0, err
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, 0, err
	}
	for _, dir := range all {
		if other, err := os.Stat(dir + "/exe"); err != nil || !os.SameFile(program, other) { // the kernel's have none, some end meanwhile
			continue
		}
		one, err := cpuTime(dir + "/stat")
		if err != nil {
			return 0, 0, err
		}
		most, err := peakMiB(dir + "/status")
		if err != nil {
			return 0, 0, err
		}
		used, peak = used+one, peak+most
	}
	return used, peak, nil
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMiB returns the most resident memory that a process has had, from its status file.
func peakMiB(status string) (float64, error) {
	text, err := os.ReadFile(status)
	if err != nil {
		return 0, err
	}
	found := highWater.FindSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("%s has no VmHWM", status)
	}
	kb, err := strconv.ParseFloat(string(found[1]), 64)
	return kb / 1024, err
}
