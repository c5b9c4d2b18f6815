// Package bank is the dependency of the payment service: a bank that has to authorise every payment, here a fake one
// whose faults can be chosen, behind a circuit breaker.
package bank

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
)

// ErrDown: the bank does not answer, or the breaker is open and nobody asks it. Nothing was authorised; retry later.
var ErrDown = errors.New("the bank is not available")

// Fault is how the fake bank misbehaves.
type Fault string

// The faults.
const (
	None  Fault = "none"
	Fail  Fault = "fail"  // answers every call with an error
	Hang  Fault = "hang"  // never answers
	Flaky Fault = "flaky" // fails every other call, at random
)

// Faults lists them.
func Faults() []Fault { return []Fault{None, Fail, Hang, Flaky} }

const (
	callTimeout  = time.Second     // one call
	openFor      = 2 * time.Second // how long an open breaker lets nobody through
	tripsAfter   = 5               // failures in a row
	halfOpenTrys = 3               // calls let through to see whether it works again; all must succeed
)

// Client asks the bank. It is safe for concurrent use. Make it with New.
type Client struct {
	fault   atomic.Value // Fault
	breaker *gobreaker.CircuitBreaker[struct{}]
	calls   *prometheus.CounterVec
}

// New returns a client of a fake bank and registers its metrics: bank_calls_total{result}, bank_breaker_state{state},
// bank_breaker_transitions_total{from,to}.
func New(reg prometheus.Registerer) *Client {
	c := &Client{calls: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "bank_calls_total", Help: "Authorisations asked for; rejected means that the breaker let nobody through.",
	}, []string{"result"})}
	c.fault.Store(None)
	transitions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "bank_breaker_transitions_total", Help: "Changes of the circuit breaker.",
	}, []string{"from", "to"})
	c.breaker = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name: "bank", MaxRequests: halfOpenTrys, Timeout: openFor,
		ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= tripsAfter },
		// A caller who hung up says nothing about the bank.
		IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			transitions.WithLabelValues(from.String(), to.String()).Inc()
		},
	})
	reg.MustRegister(c.calls, transitions)
	for _, result := range []string{"ok", "failed", "rejected", "abandoned"} { // so that rates start at zero
		c.calls.WithLabelValues(result)
	}
	for _, change := range [][2]gobreaker.State{
		{gobreaker.StateClosed, gobreaker.StateOpen},
		{gobreaker.StateOpen, gobreaker.StateHalfOpen},
		{gobreaker.StateHalfOpen, gobreaker.StateOpen},
		{gobreaker.StateHalfOpen, gobreaker.StateClosed},
	} {
		transitions.WithLabelValues(change[0].String(), change[1].String())
	}
	for _, state := range []gobreaker.State{gobreaker.StateClosed, gobreaker.StateHalfOpen, gobreaker.StateOpen} {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "bank_breaker_state", Help: "1 for the state the circuit breaker is in.",
			ConstLabels: prometheus.Labels{"state": state.String()},
		}, func() float64 {
			if c.breaker.State() == state {
				return 1
			}
			return 0
		}))
	}
	return c
}

// SetFault chooses how the fake bank misbehaves from now on.
func (c *Client) SetFault(f Fault) error {
	if !slices.Contains(Faults(), f) {
		return fmt.Errorf("set the bank's fault: %q is none of %v", f, Faults())
	}
	c.fault.Store(f)
	return nil
}

// Fault returns how the fake bank misbehaves.
func (c *Client) Fault() Fault { return c.fault.Load().(Fault) }

// Authorise asks the bank once; it may be repeated with the same key. The error is ErrDown or the caller's own deadline.
func (c *Client) Authorise(ctx context.Context, _ string) error {
	_, err := c.breaker.Execute(func() (struct{}, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errors.New("no answer"))
		defer cancel()
		return struct{}{}, c.ask(ctx)
	})
	switch {
	case err == nil:
		c.calls.WithLabelValues("ok").Inc()
		return nil
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		c.calls.WithLabelValues("rejected").Inc()
	case ctx.Err() != nil:
		c.calls.WithLabelValues("abandoned").Inc()
		return ctx.Err()
	default:
		c.calls.WithLabelValues("failed").Inc()
	}
	return fmt.Errorf("%w: %w", ErrDown, err)
}

// Check says whether the breaker lets calls through. It asks nobody.
func (c *Client) Check(context.Context) error {
	if state := c.breaker.State(); state != gobreaker.StateClosed {
		return fmt.Errorf("the circuit breaker is %s", state)
	}
	return nil
}

// ask is the fake.
func (c *Client) ask(ctx context.Context) error {
	switch f := c.Fault(); {
	case f == Hang:
		<-ctx.Done()
		return context.Cause(ctx)
	case f == Fail, f == Flaky && rand.IntN(2) == 0:
		return errors.New("the bank answered 500")
	default:
		return ctx.Err()
	}
}
