package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/demo/balancer"
	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
	"github.com/drain-agent/drain-agent/scripts/load/openloop"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// Before the first stop the slow connections settle on the pods; after the last, late failures show.
const (
	warmUp   = 3 * time.Second
	coolDown = time.Second
)

// result is what came of one part.
type result struct {
	Part  string          `json:"part"`
	Load  openloop.Report `json:"load"`
	Stops []stop          `json:"stops"`
}

// stop is the stop of one pod.
type stop struct {
	Seconds float64           `json:"seconds"` // from the deletion to the end of the last container
	Verdict *timeline.Verdict `json:"verdict,omitempty"`

	events []timeline.Event
}

// rollout is one part of the demo: pods behind a balancer, load, and each pod replaced by a new one.
type rollout struct {
	part     string
	stage    *demopod.Stage
	logs     string
	flags    flags
	show     *progress
	manifest *corev1.Pod
	service  *balancer.Balancer
	load     *openloop.Generator
	stops    []stop

	mu   sync.Mutex
	pods []named // all of them, also those that have stopped
}

type named struct {
	*pod.Pod
	name string
}

// begin starts the balancer and the first pods. The caller must call end, also after an error.
func (r *rollout) begin(ctx context.Context) (err error) {
	if r.manifest, err = r.stage.Manifest(r.part); err != nil {
		return err
	}
	if r.service, err = balancer.Listen(ctx, "127.0.0.1:0", balancer.KubeProxy()); err != nil {
		return err
	}
	r.show.part(r.part, nil, "starting %d pods", r.flags.Pods)
	var starting sync.WaitGroup
	failed := make([]error, r.flags.Pods)
	for i := range r.flags.Pods {
		starting.Go(func() { failed[i] = r.start(ctx, i) })
	}
	starting.Wait()
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	if why := r.pods[0].WhyShared(); why != "" && !r.flags.Ports {
		r.show.part(r.part, nil, "pods share this machine's loopback: %s", why)
	}
	return nil
}

// start runs pod number n and adds it to the service once it is ready.
func (r *rollout) start(ctx context.Context, n int) error {
	name := fmt.Sprintf("%s-%d", r.part, n+1)
	p, err := r.stage.Start(ctx, r.logs, name, r.manifest)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pods = append(r.pods, named{p, name})
	r.service.Add(name, demopod.Address(p, demopod.Inbound))
	return nil
}

// play sends the load and replaces the first pods one after another, each once its successor is ready, as a rollout
// with maxSurge 1 does. It ends sending, but does not wait for the requests under way.
func (r *rollout) play(ctx context.Context) (err error) {
	plan := openloop.DefaultPlan(r.service.Addr())
	plan.Rate, plan.Slow, plan.OwnSource = r.flags.Rate, r.flags.Slow, true
	if r.load, err = openloop.Start(ctx, plan); err != nil {
		return err
	}
	if err := r.wait(ctx, warmUp, "warming up"); err != nil {
		return err
	}
	old := r.pods[:r.flags.Pods:r.flags.Pods]
	successor := r.startLater(ctx, len(old))
	for i, p := range old {
		r.show.part(r.part, r.load, "pod %d of %d: waiting for its successor", i+1, len(old))
		if err := <-successor; err != nil {
			return err
		}
		if i+1 < len(old) {
			successor = r.startLater(ctx, len(old)+i+1)
		}
		r.show.part(r.part, r.load, "pod %d of %d: stopping", i+1, len(old))
		if err := r.stop(ctx, p); err != nil {
			return err
		}
	}
	err = r.wait(ctx, coolDown, "looking for late failures")
	r.load.End()
	return err
}

func (r *rollout) startLater(ctx context.Context, n int) <-chan error {
	done := make(chan error, 1)
	go func() { done <- r.start(ctx, n) }()
	return done
}

// stop deletes the pod, takes it from the service, and waits for its end.
func (r *rollout) stop(ctx context.Context, p named) error {
	began := time.Now()
	p.Delete(nil)
	r.service.Remove(p.name)
	if err := p.Wait(ctx); err != nil {
		return err
	}
	events, verdict := demopod.Timeline(p.Pod)
	r.stops = append(r.stops, stop{Seconds: time.Since(began).Seconds(), Verdict: verdict, events: events})
	return nil
}

func (r *rollout) wait(ctx context.Context, d time.Duration, what string) error {
	r.show.part(r.part, r.load, "%s", what)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// end waits for the requests under way, ends everything and returns what came of the part. When the context of begin
// and play has ended it does not wait.
func (r *rollout) end() result {
	done := result{Part: r.part, Stops: r.stops}
	if r.load != nil {
		done.Load = r.load.Stop()
	}
	if r.service != nil {
		r.service.Close()
	}
	var all sync.WaitGroup
	for _, p := range r.pods {
		all.Go(p.Close)
	}
	all.Wait()
	return done
}
