package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/demo/balancer"
	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
	"github.com/drain-agent/drain-agent/scripts/load/openloop"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// stop is the stop of a pod, as it was measured from outside, with what its agent said of it.
type stop struct {
	Kind    string `json:"kind"`
	Seed    uint64 `json:"seed"`
	Setting string `json:"setting"`
	Use     string `json:"use"`

	TookMS int64  `json:"took_ms"` // from the deletion to the agent's answer to its own hook, which is when it gives its verdict; without one to the end
	GoneMS int64  `json:"gone_ms"` // to the end of the pod
	Sent   int    `json:"sent"`
	Lost   int    `json:"lost"` // requests that clients did not get
	How    string `json:"how,omitempty"`
	LateMS int64  `json:"late_ms"` // how late the clients were at worst

	Outcome string          `json:"outcome,omitempty"` // as its agent says
	Reason  string          `json:"reason,omitempty"`
	Verdict json.RawMessage `json:"verdict,omitempty"` // its whole line, where advise reads it
}

// inTime reports whether the grace period did not end the stop. A request that comes at the last moment and needs more than the app's own
// share is cut whatever the grace period is.
func (s *stop) inTime() bool {
	return s.Outcome == "clean" || strings.Contains(s.Reason, "did not end within its share") && !strings.Contains(s.Reason, "grace period")
}

// of are the stops of a kind, or of all kinds, and of a use.
func of(all []stop, kind, use string) (some []stop) {
	for _, s := range all {
		if (kind == "" || s.Kind == kind) && s.Use == use {
			some = append(some, s)
		}
	}
	return some
}

// stage is what all pods share.
type stage struct {
	*demopod.Stage
	dir       string
	successor *pod.Pod // takes what goes elsewhere once a pod stops
}

func newStage(ctx context.Context, built *demopod.Stage, dir string) (*stage, error) {
	manifest, err := built.Plain()
	if err != nil {
		return nil, err
	}
	successor, err := built.Start(ctx, dir, "successor", manifest)
	if err != nil {
		return nil, err
	}
	return &stage{built, dir, successor}, nil
}

func (s *stage) close() { s.successor.Close() }

// stops makes all stops, some at a time. One that could not be measured is made again, once, and then named and left out.
func (s *stage) stops(ctx context.Context, tasks []task, parallel int) (done []stop) {
	var mu sync.Mutex
	var all sync.WaitGroup
	places := make(chan struct{}, max(parallel, 1))
	for i, t := range tasks {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			one, err := s.stop(ctx, t)
			if err != nil && ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "[%d of %d] once more: %v\n", i+1, len(tasks), err)
				one, err = s.stop(ctx, t)
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "[%d of %d] left out: %v\n", i+1, len(tasks), err)
				return
			}
			fmt.Fprintf(os.Stderr, "[%d of %d] %s %d, %s (%s): %s, %.1f s, %d of %d lost %s\n", i+1, len(tasks), t.kind, t.seed, t.setting, t.use, one.Outcome, float64(one.TookMS)/1000, one.Lost, one.Sent, one.How)
			mu.Lock()
			defer mu.Unlock()
			done = append(done, one)
		})
	}
	all.Wait()
	return done
}

// stop lets clients work on a pod, deletes it under their hands, and says what became of it and them.
func (s *stage) stop(ctx context.Context, t task) (one stop, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	manifest, err := s.manifest(t.setting)
	if err != nil {
		return one, err
	}
	name := fmt.Sprintf("%s-%d", t.kind, t.seed)
	p, err := s.Start(ctx, s.dir, name, manifest)
	if err != nil {
		return one, err
	}
	defer os.RemoveAll(s.dir + "/" + name)
	defer p.Close()
	service, err := balancer.Listen(ctx, "127.0.0.1:0", draw(t.kind, t.seed).lag)
	if err != nil {
		return one, err
	}
	defer service.Close()
	service.Add("this", demopod.Address(p, demopod.Inbound))
	report, err := s.under(ctx, t, p, service)
	if err != nil {
		return one, err
	}
	one = stop{Kind: t.kind, Seed: t.seed, Setting: t.setting, Use: t.use, Sent: report.Requests, Lost: report.Failed, How: report.Kinds(), LateMS: int64(report.LatestMS)}
	one.TookMS, one.GoneMS = times(p)
	if strings.HasPrefix(t.setting, "sleep ") {
		one.TookMS = one.GoneMS
		return one, nil
	}
	text, said := verdict(p)
	if said == nil || one.TookMS == 0 {
		return one, fmt.Errorf("%s: no verdict, or its hook was not answered", name)
	}
	if one.Outcome, one.Reason = said.Outcome, said.Reason; t.use == recorded || t.use == cut {
		one.Verdict = text
	}
	return one, nil
}

// under is the stop itself: its clients go to the successor once the balancer knows.
func (s *stage) under(ctx context.Context, t task, p *pod.Pod, service *balancer.Balancer) (openloop.Report, error) {
	w := draw(t.kind, t.seed)
	w.plan.Target = service.Addr()
	load, err := openloop.Start(ctx, w.plan)
	if err != nil {
		return openloop.Report{}, err
	}
	defer load.End()
	select {
	case <-ctx.Done():
		return openloop.Report{}, ctx.Err()
	case <-time.After(w.warm):
	}
	p.Delete(nil)
	service.Add("successor", demopod.Address(s.successor, demopod.Inbound))
	service.Remove("this")
	if err := p.Wait(ctx); err != nil {
		return openloop.Report{}, err
	}
	return load.Stop(), ctx.Err()
}

// times are how long after the deletion the agent's hook was answered and the pod was gone.
func times(p *pod.Pod) (took, gone int64) {
	var deleted time.Time
	for _, e := range p.Events() {
		switch {
		case e.Kind == pod.Deleted:
			deleted = e.Time
		case e.Kind == pod.HookAnswered && e.Container == "agent":
			took = e.Time.Sub(deleted).Milliseconds()
		case e.Kind == pod.Finished:
			gone = e.Time.Sub(deleted).Milliseconds()
		}
	}
	return took, gone
}

// verdict is the line of the agent's log that has it, and what it says.
func verdict(p *pod.Pod) (json.RawMessage, *timeline.Verdict) {
	for text := range strings.Lines(string(p.Log("agent"))) {
		for line, err := range timeline.Decode(strings.NewReader(text)) {
			if err == nil && line.Verdict != nil {
				return json.RawMessage(strings.TrimSpace(text)), line.Verdict
			}
		}
	}
	return nil, nil
}
