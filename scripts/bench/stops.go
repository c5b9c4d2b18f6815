package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// settle is the agent's default, which is no lag: zero must hold for that long.
const settle = 200 * time.Millisecond

// variant is a pod with or without the agent.
type variant struct {
	who      string
	manifest func() (*corev1.Pod, error)
	steady   bool           // its samples differ by little: two are enough
	times    int            // more than once as many samples
	stage    *demopod.Stage // instead of the common one
	helper   string         // the container that drains Envoy
	mayLose  bool           // a stop that loses its request is no sample, and is counted; of our own it is an error
}

func (b *bench) agent(args ...string) variant {
	who := strings.Join(append([]string{"drain-agent"}, args...), " ")
	return variant{who: who, manifest: func() (*corev1.Pod, error) { return b.stage.WithAgent(args...) }}
}

func (b *bench) sleep(seconds int64) variant {
	return variant{who: fmt.Sprintf("sleep %d", seconds), manifest: func() (*corev1.Pod, error) { return b.stage.Sleeping(seconds) }, steady: true}
}

// sample stops fresh pods of a variant and lets measure take one sample from each.
func (b *bench) sample(ctx context.Context, v variant, measure measure) (row, error) {
	r := row{Who: v.who}
	runs := b.runs * max(v.times, 1)
	if v.steady {
		runs = min(runs, 2)
	}
	lost := 0
	for len(r.Samples) < runs {
		x, err := b.one(ctx, v, measure)
		if _, is := errors.AsType[*lostError](err); is && v.mayLose && lost < runs {
			lost++
			fmt.Fprintf(os.Stderr, " %s: %v ...", v.who, err)
			continue
		}
		if err != nil {
			return r, fmt.Errorf("%s: %w", v.who, err)
		}
		r.Samples = append(r.Samples, x)
	}
	if lost > 0 {
		r.Who += fmt.Sprintf(" (%d of %d stops lost the request)", lost, lost+runs)
	}
	return r, nil
}

// lostError is a request that a stop cut, with what happened to the pod until then.
type lostError struct {
	cause  error
	events []pod.Event
}

func (e *lostError) Error() string {
	var last strings.Builder
	for _, one := range e.events[max(0, len(e.events)-8):] {
		fmt.Fprintf(&last, " %s %s %s;", one.Container, one.Kind, one.Detail)
	}
	return fmt.Sprintf("the request was lost: %v; the pod's last events:%s", e.cause, last.String())
}

func (b *bench) one(ctx context.Context, v variant, measure measure) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	manifest, err := v.manifest()
	if err != nil {
		return 0, err
	}
	b.pods++
	stage := b.stage
	if v.stage != nil {
		stage = v.stage
	}
	p, err := stage.Start(ctx, b.dir, fmt.Sprintf("bench-%d", b.pods), manifest)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	if v.helper == "manager" && !p.Isolated() {
		return 0, errNotIsolated
	}
	return measure(ctx, p)
}

func (b *bench) rows(ctx context.Context, f figure, measure measure, variants ...variant) ([]figure, error) {
	for _, v := range variants {
		r, err := b.sample(ctx, v, measure)
		if err != nil {
			return nil, err
		}
		f.Rows = append(f.Rows, r)
	}
	return []figure{f}, nil
}

// lag measures from the end of the last request, 3 s into the stop, to the answer of the app's hook.
func (b *bench) lag(ctx context.Context) ([]figure, error) {
	often := b.agent()
	often.times = 20 // its goal is the worst of a hundred
	return b.rows(ctx,
		figure{Name: "last request (3 s) ends → app's hook answered, settle of 200 ms taken off", Unit: "ms", Goal: "≤ 50 median, 150 worst"},
		func(ctx context.Context, p *pod.Pod) (float64, error) {
			ended := request(ctx, p, 3*time.Second)
			p.Delete(nil)
			end := <-ended
			if end.err != nil {
				return 0, end.err
			}
			answered, err := eventOf(ctx, p, "app", pod.HookAnswered)
			if err != nil {
				return 0, err
			}
			lag := answered.Sub(end.at)
			if p.Pid("agent") != 0 {
				lag -= settle
			}
			return milliseconds(lag), nil
		}, often, b.agent("--poll=1s"), b.sleep(15))
}

// idle measures how long a pod without traffic takes to stop.
func (b *bench) idle(ctx context.Context) ([]figure, error) {
	hook := figure{Name: "idle pod: deletion → app's hook answered", Unit: "s", Goal: "≤ 2.2 (propagation 1.5 + 0.7)"}
	whole := figure{Name: "idle pod: deletion → pod gone", Unit: "s"}
	nothing := variant{who: "nothing", manifest: b.stage.Plain, steady: true}
	for _, v := range []variant{b.agent(), nothing, b.sleep(5)} {
		var hooks row
		r, err := b.sample(ctx, v, func(ctx context.Context, p *pod.Pod) (float64, error) {
			began := time.Now()
			p.Delete(nil)
			if v.who != nothing.who {
				answered, err := eventOf(ctx, p, "app", pod.HookAnswered)
				if err != nil {
					return 0, err
				}
				hooks.Samples = append(hooks.Samples, answered.Sub(began).Seconds())
			}
			err := p.Wait(ctx)
			return time.Since(began).Seconds(), err
		})
		if err != nil {
			return nil, err
		}
		whole.Rows = append(whole.Rows, r)
		if len(hooks.Samples) > 0 {
			hook.Rows = append(hook.Rows, row{v.who, hooks.Samples})
		}
	}
	return []figure{hook, whole}, nil
}

// death measures, with a request of 20 s under way, from the death of a container to the answer of the hook that then
// has nothing left to wait for.
func (b *bench) death(ctx context.Context) ([]figure, error) {
	var all []figure
	for _, pair := range [][2]string{{"proxy", "app"}, {"app", "proxy"}} {
		victim, hook := pair[0], pair[1]
		figures, err := b.rows(ctx,
			figure{Name: fmt.Sprintf("%s dies 2 s into the stop → %s's hook answered", victim, hook), Unit: "s", Goal: "≤ 1"},
			func(ctx context.Context, p *pod.Pod) (float64, error) {
				request(ctx, p, 20*time.Second) // it is cut, that is not the question here
				p.Delete(nil)
				if err := pause(ctx, 2*time.Second); err != nil {
					return 0, err
				}
				died := time.Now()
				if err := p.Kill(victim); err != nil {
					return 0, err
				}
				answered, err := eventOf(ctx, p, hook, pod.HookAnswered)
				return answered.Sub(died).Seconds(), err
			}, b.agent(), b.sleep(15))
		if err != nil {
			return nil, err
		}
		all = append(all, figures...)
	}
	return all, nil
}

type ended struct {
	at  time.Time
	err error
}

// request asks the pod for work on a connection of its own and returns once that is under way.
func request(ctx context.Context, p *pod.Pod, takes time.Duration) <-chan ended {
	done := make(chan ended, 1)
	go func() {
		err := get(ctx, work(p, takes))
		done <- ended{time.Now(), err}
	}()
	_ = pause(ctx, 300*time.Millisecond) // the request passes Envoy and reaches the app
	return done
}

func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return nil
}

// letGo is how a hook ends for kubelet. Envoy Gateway's manager gives each answer ten seconds to be written (WriteTimeout), though it
// holds the hook for longer: it hangs up, which kubelet reports as FailedPreStopHook and takes for an end like any other.
func letGo() []pod.Kind { return []pod.Kind{pod.HookAnswered, pod.HookFailed, pod.HookAbandoned} }

// eventOf waits for the first of a container's events of these kinds and returns its time.
func eventOf(ctx context.Context, p *pod.Pod, container string, kinds ...pod.Kind) (at time.Time, err error) {
	err = p.WaitFor(ctx, fmt.Sprintf("%s %v", container, kinds), func(events []pod.Event) bool {
		found, ok := firstOf(events, container, kinds)
		at = found
		return ok
	})
	return at, err
}

func firstOf(events []pod.Event, container string, kinds []pod.Kind) (time.Time, bool) {
	for _, e := range events {
		if e.Container == container && slices.Contains(kinds, e.Kind) {
			return e.Time, true
		}
	}
	return time.Time{}, false
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
