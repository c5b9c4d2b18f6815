package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"time"

	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

type measure = func(context.Context, *pod.Pod) (float64, error)

// question is what is measured of a gateway pod.
type question struct {
	name, unit string
	helper     bool // asks about the helper: a sleep has none
	steady     bool // two samples are enough
	measure    func(variant) measure
}

const (
	never = 90 * time.Second // how long we wait for a helper that may wait for ever
	idle  = 35 * time.Second // how long a connection is left alone until it counts as idle: the agent samples every 30 s
)

func questions() []question {
	same := func(m measure) func(variant) measure { return func(variant) measure { return m } }
	return []question{
		{name: "a request of 12 s ends → Envoy let go", unit: "s", measure: same(afterRequest)},
		{name: "idle: deletion → Envoy let go", unit: "s", measure: same(whenIdle)},
		{name: "5 connections of HTTP/1.1 and one of HTTP/2, idle for 35 s: deletion → Envoy let go (90: not within)", unit: "s", steady: true, measure: same(withIdlePool)},
		{name: "second request 3 s after the first (12 s), others arriving between: lost", unit: "%", measure: same(secondRequest)},
		{name: "Envoy stands still for 12 s under a request: lost", unit: "%", measure: same(blackout)},
		{name: "helper restarted alone: Envoy left draining", unit: "%", helper: true, measure: restartedHelper},
		{name: "helper idle, resident", unit: "MiB", helper: true, steady: true, measure: helperMemory},
	}
}

func afterRequest(ctx context.Context, p *pod.Pod) (float64, error) {
	ended := request(ctx, p, 12*time.Second)
	p.Delete(nil)
	end := <-ended
	if end.err != nil {
		return 0, end.err
	}
	at, err := eventOf(ctx, p, "proxy", pod.Sigterm)
	return at.Sub(end.at).Seconds(), err
}

func whenIdle(ctx context.Context, p *pod.Pod) (float64, error) {
	began := time.Now()
	p.Delete(nil)
	at, err := eventOf(ctx, p, "proxy", pod.Sigterm)
	return at.Sub(began).Seconds(), err
}

func withIdlePool(ctx context.Context, p *pod.Pod) (float64, error) {
	var http2 http.Protocols
	http2.SetUnencryptedHTTP2(true)
	for _, protocols := range []*http.Protocols{nil, nil, nil, nil, nil, &http2} {
		client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
		defer client.CloseIdleConnections()
		if _, err := ask(ctx, client, p); err != nil {
			return 0, err
		}
	}
	if err := pause(ctx, idle); err != nil {
		return 0, err
	}
	limited, cancel := context.WithTimeout(ctx, never)
	defer cancel()
	took, err := whenIdle(limited, p)
	if limited.Err() != nil && ctx.Err() == nil {
		return never.Seconds(), nil
	}
	return took, err
}

// secondRequest returns 100 when the second of two requests was lost, though connections kept arriving between them.
func secondRequest(ctx context.Context, p *pod.Pod) (float64, error) {
	first := request(ctx, p, 12*time.Second)
	p.Delete(nil)
	if end := <-first; end.err != nil {
		return 100, ctx.Err()
	}
	for range 15 {
		_ = get(ctx, work(p, time.Millisecond)) // the second request is the question
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return 0, err
		}
	}
	return lost(get(ctx, work(p, 2*time.Second))), ctx.Err()
}

// blackout returns 100 when a request of 16 s was lost because its Envoy stood still for 12 s, admin and all.
func blackout(ctx context.Context, p *pod.Pod) (float64, error) {
	ended := request(ctx, p, 16*time.Second)
	p.Delete(nil)
	if err := pause(ctx, time.Second); err != nil {
		return 0, err
	}
	if err := p.Signal("proxy", syscall.SIGSTOP); err != nil {
		return 0, err
	}
	err := pause(ctx, 12*time.Second)
	if p.Pid("proxy") != 0 {
		_ = p.Signal("proxy", syscall.SIGCONT) // it may have been killed meanwhile
	}
	if err != nil {
		return 0, err
	}
	return lost((<-ended).err), ctx.Err()
}

// restartedHelper returns 100 when, after a liveness restart of the helper alone, Envoy tells its clients to go.
func restartedHelper(v variant) measure {
	return func(ctx context.Context, p *pod.Pod) (float64, error) {
		p.Restart(v.helper)
		err := p.WaitFor(ctx, v.helper+" started again", func(events []pod.Event) bool {
			starts := 0
			for _, e := range events {
				if e.Container == v.helper && e.Kind == pod.Started {
					starts++
				}
			}
			return starts > 1
		})
		if err == nil {
			err = pause(ctx, 2*time.Second) // a new agent mends what the old one left
		}
		if err != nil {
			return 0, err
		}
		closed, err := ask(ctx, &http.Client{Transport: new(http.Transport)}, p)
		if err == nil && closed {
			return 100, nil
		}
		return 0, err
	}
}

func helperMemory(v variant) measure {
	return func(ctx context.Context, p *pod.Pod) (float64, error) {
		if err := pause(ctx, 5*time.Second); err != nil {
			return 0, err
		}
		rss, _, err := residentMiB(p.Pid(v.helper))
		return rss, err
	}
}

func lost(err error) float64 {
	if err != nil {
		return 100
	}
	return 0
}

func work(p *pod.Pod, takes time.Duration) string {
	return fmt.Sprintf("http://%s/work?ms=%d", demopod.Address(p, demopod.Inbound), takes.Milliseconds())
}

// ask makes one short request and reports whether the server then closes the connection, which is left open otherwise.
func ask(ctx context.Context, client *http.Client, p *pod.Pod) (closes bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, work(p, time.Millisecond), http.NoBody)
	if err != nil {
		return false, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return false, err
	}
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("GET /work: %s", resp.Status)
	}
	return resp.Close, nil
}
