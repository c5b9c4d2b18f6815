// Command demo replaces two pods of an app behind a real Envoy under load, three times: with nothing, with sleep 5 in
// every preStop hook, and with drain-agent. It prints what the clients saw, how long the stops took, and one timeline.
// Its exit status is 1 when the part with drain-agent lost a request.
//
//	make demo
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

type flags struct {
	Parts []string `default:"nothing,sleep,agent" enum:"nothing,sleep,agent" help:"Which parts to play (${enum})."`
	Rate  float64  `default:"200" help:"Requests per second, besides those of the slow connections."`
	Slow  int      `default:"300" help:"Kept-alive connections that are each used every 8 to 12 s."`
	Pods  int      `default:"2" help:"Pods to replace, one after another."`
	Ports bool     `help:"Run the pods on the machine's loopback with mapped ports, also where namespaces are allowed."`
	JSON  string   `type:"path" placeholder:"FILE" help:"Also write all results there, with every failure."`
	Keep  string   `type:"path" placeholder:"DIR" help:"Keep the containers' logs in this folder."`
}

func main() {
	pod.Helper()
	var f flags
	kong.Parse(&f, kong.Name("demo"), kong.Description("Pods with a real Envoy, replaced under load: with nothing, with sleep 5, with drain-agent."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, f)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) error {
	dir, err := os.MkdirTemp("", "drain-agent-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the demo: %w", err)
	}
	defer os.RemoveAll(dir)
	isolate := pod.Auto
	if f.Ports {
		isolate = pod.Ports
	}
	show := newProgress(os.Stderr)
	show.say("set-up: building the app and the agent, finding Envoy (a minute the first time)")
	stage, err := demopod.Build(ctx, dir, isolate)
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	logs := filepath.Join(dir, "logs")
	if f.Keep != "" {
		logs = f.Keep
	}
	began := time.Now()
	var parts []*rollout
	for _, name := range f.Parts {
		parts = append(parts, &rollout{part: name, stage: stage, logs: logs, flags: f, show: show})
	}
	results, err := play(ctx, parts)
	if err != nil {
		show.clear()
		if ctx.Err() != nil {
			return errors.New("interrupted; all pods are gone")
		}
		return err
	}
	show.clear()
	report(os.Stdout, results, time.Since(began))
	if f.JSON != "" {
		if err := writeJSON(f.JSON, results); err != nil {
			return err
		}
	}
	return judge(results)
}

// judge fails when drain-agent lost a request or did not say how a stop went.
func judge(results []result) error {
	for _, r := range results {
		if r.Part != "agent" {
			continue
		}
		if r.Load.Failed > 0 {
			return fmt.Errorf("%d of %d requests were lost with drain-agent", r.Load.Failed, r.Load.Requests)
		}
		for i, s := range r.Stops {
			if s.Verdict == nil {
				return fmt.Errorf("the agent of pod %d left no verdict", i+1)
			}
		}
	}
	return nil
}

// play plays the parts one after another. The last requests of one are waited for while the pods of the next start.
// Nothing is left running.
func play(ctx context.Context, parts []*rollout) (results []result, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i, r := range parts {
		err = r.begin(ctx)
		if err == nil && i > 0 {
			results = append(results, parts[i-1].end())
		}
		if err == nil {
			err = r.play(ctx)
		}
		if err != nil {
			cancel()
			r.end()
			if i > 0 {
				parts[i-1].end()
			}
			return nil, fmt.Errorf("part %q: %w", r.part, err)
		}
	}
	last := parts[len(parts)-1]
	last.show.part(last.part, last.load, "waiting for the last requests")
	return append(results, last.end()), nil
}

func writeJSON(path string, results []result) error {
	b, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
