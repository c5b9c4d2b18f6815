package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// memory measures an agent that has served for 10 s in a pod without traffic.
func (b *bench) memory(ctx context.Context) ([]figure, error) {
	rss := figure{Name: "memory of an idle agent, resident", Unit: "MiB", Goal: "≤ 24", Rows: []row{{Who: "drain-agent"}, {Who: "Envoy beside it"}}}
	anonymous := figure{Name: "memory of an idle agent, anonymous", Unit: "MiB", Goal: "≤ 8", Rows: []row{{Who: "drain-agent"}, {Who: "Envoy beside it"}}}
	v := b.agent()
	v.steady = true
	_, err := b.sample(ctx, v, func(ctx context.Context, p *pod.Pod) (float64, error) {
		if err := pause(ctx, 10*time.Second); err != nil {
			return 0, err
		}
		for i, container := range []string{"agent", "proxy"} {
			r, a, err := residentMiB(p.Pid(container))
			if err != nil {
				return 0, err
			}
			rss.Rows[i].Samples = append(rss.Rows[i].Samples, r)
			anonymous.Rows[i].Samples = append(anonymous.Rows[i].Samples, a)
		}
		return 0, nil
	})
	return []figure{rss, anonymous}, err
}

var rollup = regexp.MustCompile(`(?m)^(Rss|Anonymous):\s+(\d+) kB`)

// residentMiB returns the resident and the anonymous memory of a process.
func residentMiB(pid int) (rss, anonymous float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	for _, line := range rollup.FindAllStringSubmatch(string(text), -1) {
		kb, _ := strconv.ParseFloat(line[2], 64)
		if line[1] == "Rss" {
			rss = kb / 1024
		} else {
			anonymous = kb / 1024
		}
	}
	if rss == 0 {
		return 0, 0, fmt.Errorf("read the memory of process %d: no Rss in smaps_rollup", pid)
	}
	return rss, anonymous, nil
}

// size measures the binary, which is all there is in the image.
func (b *bench) size(context.Context) ([]figure, error) {
	binary, err := os.ReadFile(b.stage.Images["drain-agent"])
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(binary); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return []figure{{Name: "image, compressed (the binary is all of it)", Unit: "MB", Goal: "≤ 9", Rows: []row{
		{Who: "drain-agent", Samples: []float64{float64(packed.Len()) / 1e6}},
	}}, {Name: "binary, stripped", Unit: "MB", Rows: []row{
		{Who: "drain-agent", Samples: []float64{float64(len(binary)) / 1e6}},
	}}}, nil
}

// ready measures from exec to the first /livez that says 200, without an Envoy.
func (b *bench) ready(ctx context.Context) ([]figure, error) {
	f := figure{Name: "exec → /livez answers 200", Unit: "ms", Goal: "≤ 50", Rows: []row{{Who: "drain-agent"}}}
	for range 20 {
		x, err := b.readyOnce(ctx)
		if err != nil {
			return nil, err
		}
		f.Rows[0].Samples = append(f.Rows[0].Samples, x)
	}
	return []figure{f}, nil
}

func (b *bench) readyOnce(ctx context.Context) (float64, error) {
	const listen = "127.0.0.1:19909"
	agent := exec.CommandContext(ctx, b.stage.Images["drain-agent"], "run", "--listen="+listen, "--envoy-admin=",
		"--control="+filepath.Join(b.dir, "control.sock"), "--termination-log=")
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := agent.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = agent.Process.Signal(syscall.SIGKILL)
		_ = agent.Wait() // killed
	}()
	for ; ctx.Err() == nil && time.Since(began) < 10*time.Second; time.Sleep(200 * time.Microsecond) {
		if get(ctx, "http://"+listen+"/livez") == nil {
			return milliseconds(time.Since(began)), nil
		}
	}
	return 0, errors.New("/livez did not answer 200 within 10 s")
}

var benchLine = regexp.MustCompile(`(?m)^BenchmarkStep\S*\s+\d+\s+([\d.]+) ns/op\s+\d+ B/op\s+(\d+) allocs/op`)

// step measures one decision of the core.
func (b *bench) step(ctx context.Context) ([]figure, error) {
	test := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=^BenchmarkStep", "-benchmem", "-count=5",
		"github.com/drain-agent/drain-agent/agent/internal/drain")
	out, err := test.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	times := figure{Name: "one decision (drain.Step)", Unit: "ns", Goal: "< 1000", Rows: []row{{Who: "drain-agent"}}}
	allocs := figure{Name: "one decision (drain.Step)", Unit: "allocations", Goal: "0", Rows: []row{{Who: "drain-agent"}}}
	for _, line := range benchLine.FindAllStringSubmatch(string(out), -1) {
		for i, f := range []*figure{&times, &allocs} {
			x, err := strconv.ParseFloat(line[i+1], 64)
			if err != nil {
				return nil, err
			}
			f.Rows[0].Samples = append(f.Rows[0].Samples, x)
		}
	}
	if len(times.Rows[0].Samples) == 0 {
		return nil, fmt.Errorf("no BenchmarkStep in: %s", out)
	}
	return []figure{times, allocs}, nil
}
