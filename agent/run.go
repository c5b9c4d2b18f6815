package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/conductor"
	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/server"
	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/probes"
)

const (
	exitUsage  = 1
	flushReply = time.Second             // for the answers of the last hooks
	flushLog   = 1500 * time.Millisecond // for the verdict to leave through stdout
)

// run is the container's main command. It returns the exit code.
func run(f *runFlags, stdout, stderr io.Writer) int {
	signals := make(chan os.Signal, 4) // first of all: a SIGTERM that comes before this kills the process
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	signal.Ignore(syscall.SIGPIPE) // a closed stdout must not end a drain

	frugal()
	c, err := load(f)
	if err != nil {
		fmt.Fprintf(stderr, "drain-agent: %v\nSee drain-agent run --help.\n", err)
		return exitUsage
	}
	sink := timeline.NewSink(stdout, f.LogFormat)
	w := newWires(c)
	defer w.close()
	report := reporter{w: w}
	recorder := timeline.NewRecorder(sink.Put, termination(f.TerminationLog), report.put)
	say := speaker(recorder)
	for _, doubt := range c.doubts {
		say(doubt)
	}
	metrics := server.NewMetrics(metricsOptions(c))
	for _, source := range c.sources {
		if err := source.Open(); err != nil {
			say(err.Error())
		}
	}
	agent := conductor.New(conductor.Config{Policy: c.policy, World: w.world(), Recorder: recorder, Metrics: metrics, Poll: f.Poll.v})
	faces, err := newFaces(c, w, agent, metrics, say)
	if err != nil {
		fmt.Fprintf(stderr, "drain-agent: %v\n", err)
		return exitUsage
	}
	if err := faces.server.Start(); err != nil {
		say(err.Error())
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for range signals {
			agent.Terminate()
		}
	}()
	if f.DrainFile != "" {
		go watchDrainFile(ctx, f.DrainFile, func(there bool) { agent.Intend(drain.DrainFile, there, "drain file "+f.DrainFile) }, say)
	}
	code := agent.Run(ctx)
	faces.close()
	flush(sink)
	report.wait()
	return code
}

// speaker writes what a person should know before any drain begins.
func speaker(recorder *timeline.Recorder) func(string) {
	return func(text string) {
		recorder.Record(timeline.Event{Time: time.Now(), Level: timeline.LevelWarn, From: "serving", To: "serving", Reason: text})
	}
}

// termination leaves the verdict where kubelet looks for it. The file is a mount: it is written, never replaced.
func termination(path string) func(timeline.Line) {
	return func(line timeline.Line) {
		if path == "" || line.Verdict == nil {
			return
		}
		_ = os.WriteFile(path, []byte(line.Verdict.Termination(1024)), 0o644) // outside Kubernetes there is no such file to be written
	}
}

func flush(sink *timeline.Sink) {
	ctx, cancel := context.WithTimeout(context.Background(), flushLog)
	defer cancel()
	_ = sink.Flush(ctx) // stdout is closed or stuck: there is nobody left to tell
}

// faces are the server and the checks behind its probes.
type faces struct {
	server *server.Server
	probes *probes.Registry
}

func newFaces(c *config, w *wires, agent *conductor.Conductor, metrics *server.Metrics, say func(string)) (*faces, error) {
	registry, err := probes.New(probes.Config{
		Startup: []probes.Check{{Name: "proxy", Run: w.ready, Policy: probes.Degraded}},
		Readiness: []probes.Check{{Name: "drain", Run: func(context.Context) error {
			if ok, phase := agent.Ready(); !ok {
				return errors.New("phase " + phase)
			}
			return nil
		}}},
	})
	if err != nil {
		return nil, fmt.Errorf("set up probes: %w", err)
	}
	srv, err := server.New(server.Agent{
		Hook: func(ctx context.Context, container string, authentic bool) server.HookAnswer {
			a := agent.Hook(ctx, container, authentic)
			return server.HookAnswer{Container: a.Container, HeldMS: a.Held.Milliseconds(), Phase: a.Phase, Outcome: a.Outcome}
		},
		Status:  func(page server.EventPage) any { return statusPage(agent, page) },
		Operate: agent.Operate,
	}, server.Options{
		Listen: c.flags.Listen, Control: c.flags.Control, TokenFile: c.flags.TokenFile,
		Metrics: metrics.Handler(), Probes: registry, Warn: say,
	})
	if err != nil {
		registry.Close()
		return nil, fmt.Errorf("set up the server: %w", err)
	}
	return &faces{server: srv, probes: registry}, nil
}

// statusPage is the agent's, with the events of the page.
func statusPage(agent *conductor.Conductor, page server.EventPage) conductor.Status {
	st := agent.Status()
	if page.Before > 0 {
		st.Events = slices.DeleteFunc(st.Events, func(e timeline.Event) bool { return e.Seq >= page.Before })
	}
	if extra := len(st.Events) - page.Limit; page.Limit > 0 && extra > 0 {
		st.Events = st.Events[extra:]
	}
	return st
}

// frugal keeps the heap near what is alive: the limit of a container is for all that strangers can make us hold, and a little more
// work for the collector is cheap. Who sets GOGC or GOMEMLIMIT is left alone.
func frugal() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(14 << 20)
	}
}

// close answers what is still asked, and ends.
func (f *faces) close() {
	ctx, cancel := context.WithTimeout(context.Background(), flushReply)
	defer cancel()
	_ = f.server.Shutdown(ctx) // what could not be flushed is cut with the process
	f.probes.Close()
}
