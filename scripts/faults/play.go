package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
	"github.com/drain-agent/drain-agent/scripts/synced"
)

type event = timeline.Event

// played is a cell's pod while it is played.
type played struct {
	*pod.Pod
	stage *demopod.Stage
	dir   string
	atEnd []func() error
	args  []string // of the agent
	grace time.Duration

	inFlight int // requests that were sent one by one
}

func (p *played) address(port int) string { return demopod.Address(p.Pod, port) }

func (p *played) volume(name string) string { return filepath.Join(p.dir, "volumes", name) }

func (p *played) events() []event {
	events, _ := demopod.Timeline(p.Pod)
	return events
}

// phase waits until the agent's timeline enters a phase.
func (p *played) phase(ctx context.Context, name string) error {
	return synced.Until(ctx, "phase "+name, func() bool {
		return slices.ContainsFunc(p.events(), func(e event) bool { return e.To == name })
	})
}

// ask sends one request on a connection of its own.
func ask(ctx context.Context, method, url string) (body string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", method, url, res.Status)
	}
	return string(text), err
}

// play runs the cell's pod from its start to its end.
func (c cell) play(ctx context.Context, stage *demopod.Stage, dir string, i int) row {
	r := row{cell: c.name()}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	p, err := c.start(ctx, stage, filepath.Join(dir, strconv.Itoa(i)))
	if err != nil {
		r.say("the pod did not start: %v", err)
		return r
	}
	defer func() {
		p.Close()
		for _, end := range p.atEnd {
			if err := end(); err != nil {
				r.say("clean up: %v", err)
			}
		}
	}()
	if err := c.stop(ctx, p, &r); err != nil {
		r.say("%v", err)
	}
	c.check(p, &r)
	if len(r.wrong) > 0 {
		r.log = p.story()
	}
	return r
}

// read waits until the agent has read Envoy.
func (p *played) read(ctx context.Context) error {
	return synced.Until(ctx, "the agent's first reading of Envoy", func() bool {
		status, err := ask(ctx, http.MethodGet, "http://"+p.address(9909)+"/status")
		return err == nil && strings.Contains(status, `"proxy":{"in_flight":0`)
	})
}

// story is what kubelet and the agent say of the pod, for people.
func (p *played) story() string {
	var b strings.Builder
	for _, e := range p.Events() {
		fmt.Fprintln(&b, "   ", e)
	}
	events, verdict := timelineOf(p)
	for _, e := range events {
		fmt.Fprintln(&b, "   ", e.Text())
	}
	if verdict != nil {
		fmt.Fprintln(&b, "   ", verdict.Text())
	}
	return b.String()
}

// stop deletes the pod with the cell's work in flight while the fault happens, and waits for the end of both.
func (c cell) stop(ctx context.Context, p *played, r *row) error {
	if c.fault.before != nil {
		if err := c.fault.before(ctx, p); err != nil {
			return fmt.Errorf("before the deletion: %w", err)
		}
	}
	if c.fault.direct { // whom nobody ever saw cannot be seen to die
		if err := p.read(ctx); err != nil {
			return err
		}
	}
	w, err := c.begin(ctx, p)
	if err != nil {
		return err
	}
	grace := p.grace
	began := time.Now()
	p.Delete(&grace)
	w.leave(ctx)
	var failed error
	if c.fault.during != nil {
		if failed = p.phase(ctx, cmp.Or(c.fault.phase, "announcing")); failed == nil {
			failed = c.fault.during(ctx, p)
		}
	}
	ended := p.Wait(ctx)
	r.seconds = time.Since(began).Seconds()
	r.sent, r.lost, r.how = w.end()
	return errors.Join(failed, ended)
}

func (c cell) start(ctx context.Context, stage *demopod.Stage, dir string) (*played, error) {
	p := &played{stage: stage, dir: dir, grace: 60 * time.Second}
	if c.fault.grace != 0 {
		p.grace = c.fault.grace
	}
	manifest, err := c.manifest(stage)
	if err != nil {
		return nil, err
	}
	options := pod.Options{
		Images: stage.Images, Dir: dir, Isolate: pod.Namespaces, BackOff: time.Second,
		ConfigMaps: map[string]map[string]string{"envoy": {"envoy.yaml": stage.Bootstrap, "clusters.yaml": noClusters}},
	}
	if c.fault.full {
		full := dir + "-full"
		undo, err := fill(full)
		if err != nil {
			return nil, err
		}
		p.atEnd = append(p.atEnd, undo)
		options.Volumes = map[string]string{"run": full}
	}
	args := agentOf(manifest).Args
	p.args = args[slices.Index(args, "run"):]
	if p.Pod, err = pod.Start(ctx, manifest, options); err != nil {
		return nil, err
	}
	if err := p.WaitUp(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func agentOf(manifest *corev1.Pod) *corev1.Container {
	for _, list := range [][]corev1.Container{manifest.Spec.InitContainers, manifest.Spec.Containers} {
		for i := range list {
			if list[i].Name == "agent" {
				return &list[i]
			}
		}
	}
	return nil
}

// manifest returns the demo's pod in the cell's shape, with what stands between the agent and the pages that it reads.
func (c cell) manifest(stage *demopod.Stage) (*corev1.Pod, error) {
	manifest, err := stage.WithAgent(c.fault.args...)
	if err != nil {
		return nil, err
	}
	agent := agentOf(manifest)
	for i, arg := range agent.Args {
		if !c.fault.direct {
			arg = strings.Replace(arg, "127.0.0.1:15000", fmt.Sprintf("127.0.0.1:%d", adminBetween), 1)
			arg = strings.Replace(arg, "127.0.0.1:8090/", fmt.Sprintf("127.0.0.1:%d/", appBetween), 1)
		}
		if c.fault.told {
			arg = strings.Replace(arg, "--grace-period=60s", fmt.Sprintf("--grace-period=%v", c.fault.grace), 1)
		}
		agent.Args[i] = arg
	}
	middle := corev1.Container{ // always a native sidecar, and the first: it is stopped last
		Name: "between", Image: "between", Args: []string{"between"}, RestartPolicy: agent.RestartPolicy,
		Ports: []corev1.ContainerPort{{ContainerPort: adminBetween}, {ContainerPort: appBetween}},
	}
	if c.shape == classic {
		for _, container := range manifest.Spec.InitContainers {
			container.RestartPolicy = nil
			manifest.Spec.Containers = append(manifest.Spec.Containers, container)
		}
		manifest.Spec.InitContainers = nil
		agent = agentOf(manifest)
		agent.Lifecycle = nil
		for i, arg := range agent.Args {
			agent.Args[i] = strings.Replace(arg, "--hooks=app,proxy,agent", "--hooks=app,proxy", 1)
		}
	}
	manifest.Spec.InitContainers = append([]corev1.Container{middle}, manifest.Spec.InitContainers...)
	if c.fault.wrap != "" {
		agent = agentOf(manifest)
		agent.Image, agent.Args = "between", append([]string{"wrap", c.fault.wrap, stage.Images["drain-agent"]}, agent.Args...)
	}
	return manifest, nil
}
