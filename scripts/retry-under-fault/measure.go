package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// form is one way to inject faults, and what came of it.
type form struct {
	sent, injected, failed, retries int64
	made, doubled                   int
}

// result is everything that was counted.
type result struct {
	article, ours    form
	customer         form  // ours, with the service's own payment client
	stable, canary   int64 // requests, without faults
	limited, allowed int64
	seconds          float64 // in which these came
	ejected          bool
	failedWhileSick  int // payments lost while one of two pods answered 503
	returned         bool
}

func (m *mesh) measure(ctx context.Context, n int) (*result, error) {
	r := new(result)
	var err error
	byGHZ := func(listener string) func() (form, error) {
		return func() (form, error) {
			sent, err := m.driver.pay(ctx, m.client.ports[listener], n, true)
			if err != nil {
				return form{}, err
			}
			f := form{sent: int64(sent.sent), failed: int64(sent.failed)}
			f.made, f.doubled, err = m.service.audit(ctx, sent.keys)
			return f, err
		}
	}
	if r.article, err = m.faults(m.client, byGHZ("article")); err != nil {
		return nil, err
	}
	if r.ours, err = m.faults(m.gateway, byGHZ("ours")); err != nil {
		return nil, err
	}
	if r.customer, err = m.faults(m.gateway, func() (form, error) { return m.service.customer(ctx, m.chaotic.addr) }); err != nil {
		return nil, err
	}
	for _, experiment := range []func(context.Context, *result, int) error{m.weights, m.sickPod, m.limit} {
		if err := experiment(ctx, r, n); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// faults lets a client send payments with the header x-chaos-test. The proxy that injects counts the faults, the client's the retries.
func (m *mesh) faults(injector *proxy, send func() (form, error)) (f form, err error) {
	const aborts, retries = `fault.aborts_injected$`, `upstream_rq_retry$`
	aborted, err := injector.sum(aborts)
	if err != nil {
		return f, err
	}
	retried, err := m.client.sum(retries)
	if err != nil {
		return f, err
	}
	if f, err = send(); err != nil {
		return f, err
	}
	if f.injected, err = injector.sum(aborts); err != nil {
		return f, err
	}
	if f.retries, err = m.client.sum(retries); err != nil {
		return f, err
	}
	f.injected, f.retries = f.injected-aborted, f.retries-retried
	return f, nil
}

// weights sends payments without a fault and counts which pods got them.
func (m *mesh) weights(ctx context.Context, r *result, n int) error {
	stable, canary := m.stable[0].served.Load()+m.stable[1].served.Load(), m.canary.served.Load()
	if _, err := m.driver.pay(ctx, m.client.ports["ours"], n, false); err != nil {
		return err
	}
	r.stable, r.canary = m.stable[0].served.Load()+m.stable[1].served.Load()-stable, m.canary.served.Load()-canary
	return nil
}

// sickPod lets one of the two stable pods fail until Envoy leaves it alone, then mends it and waits until Envoy comes back.
func (m *mesh) sickPod(ctx context.Context, r *result, n int) error {
	m.stable[1].broken.Store(true)
	sent, err := m.driver.pay(ctx, m.client.ports["ours"], n, false)
	m.stable[1].broken.Store(false)
	if err != nil {
		return err
	}
	r.failedWhileSick = sent.failed
	ejections, err := m.client.sum(`outlier_detection.ejections_enforced_total$`)
	if err != nil {
		return err
	}
	r.ejected = ejections > 0
	before := m.stable[1].served.Load()
	r.returned = until(ctx, 30*time.Second, func() error {
		if _, err := m.driver.pay(ctx, m.client.ports["ours"], 4, false); err != nil {
			return err
		}
		if m.stable[1].served.Load() == before {
			return fmt.Errorf("still ejected")
		}
		return nil
	}) == nil
	return nil
}

// limit asks one pod's proxy as fast as it can until more came in a second than its bucket holds.
func (m *mesh) limit(ctx context.Context, r *result, _ int) error {
	began := time.Now()
	err := until(ctx, time.Minute, func() (err error) {
		if err := m.driver.flood(ctx, m.gateway.ports["inbound"], 500); err != nil {
			return err
		}
		if r.limited, err = m.gateway.sum(`http_local_rate_limiter.http_local_rate_limit.rate_limited$`); err == nil && r.limited == 0 {
			err = errors.New("nothing was refused: this machine is too slow for the limit")
		}
		return err
	})
	r.seconds = time.Since(began).Seconds()
	if err != nil {
		return err
	}
	r.allowed, err = m.gateway.sum(`http_local_rate_limiter.http_local_rate_limit.ok$`)
	return err
}

func (r *result) print(out io.Writer) {
	fmt.Fprintf(out, "%-34s %8s %8s %8s %8s %8s %8s\n", "form", "payments", "injected", "retries", "failed", "made", "doubled")
	for _, row := range []struct {
		name string
		form form
	}{
		{"the article's: fault on the route", r.article}, {"ours: fault at the second hop", r.ours}, {"ours, by the payment client", r.customer},
	} {
		f := row.form
		fmt.Fprintf(out, "%-34s %8d %8d %8d %8d %8d %8d\n", row.name, f.sent, f.injected, f.retries, f.failed, f.made, f.doubled)
	}
	fmt.Fprintf(out, "\ncanary weights 90:10: %d to stable, %d to canary\n", r.stable, r.canary)
	fmt.Fprintf(out, "one of two pods answers 503: ejected %v, payments failed %d, back after it was mended %v\n", r.ejected, r.failedWhileSick, r.returned)
	fmt.Fprintf(out, "rate limit of 100 a second into one pod: %d let through in %.1f s, %d answered 429\n", r.allowed, r.seconds, r.limited)
}
