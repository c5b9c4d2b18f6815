package probes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Policy says how a failing check counts; the package comment gives the reasons.
type Policy uint8

// The policies. The zero value is the strict one.
const (
	Required Policy = iota // fails its question
	Degraded               // is reported and fails nothing
	Shared                 // Required until it has passed once in this process, Degraded after that; not for liveness
)

// DefaultTimeout is a little less than the second kubelet waits by default, so that the answer says which check was late.
const DefaultTimeout = 800 * time.Millisecond

// Check is one thing that can be well or not.
type Check struct {
	// Name is unique within its question: letters, digits, '-', '_' and '.'.
	Name string
	// Run returns nil when all is well, else the reason in a few words; it is shown to whoever asks, so it must hold no secret.
	// It should return when ctx ends. A panic counts as a failure.
	Run func(ctx context.Context) error
	// Timeout bounds one run. Zero means Every where that is set, else DefaultTimeout.
	Timeout time.Duration
	// Every, when not zero, runs the check in the background with this pause between two runs. Until the first run is over the
	// check has failed.
	Every time.Duration
	// Policy says how a failure counts.
	Policy Policy
}

// check is a Check with what is known of it.
type check struct {
	Check
	latch   bool   // once passed, always passed, without another run
	changed func() // called after a background run gave another result than the one before

	mu      sync.Mutex
	current *run // under way, or nil
	last    error
	passed  bool // at least once
}

// run is one execution of a check's function. The fields are read after done is closed.
type run struct {
	ctx  context.Context
	done chan struct{}
	err  error
}

// errPending is the result of a background check that has not been run yet.
var errPending = errors.New("not run yet")

// result is what is true of the check now: from a run of its own, or of the background.
func (c *check) result(ctx context.Context) error {
	c.mu.Lock()
	if c.latch && c.passed {
		defer c.mu.Unlock()
		return nil
	}
	if c.Every > 0 {
		defer c.mu.Unlock()
		return c.last
	}
	r := c.join()
	c.mu.Unlock()
	return c.wait(ctx, r)
}

// counts reports whether a failure fails the question.
func (c *check) counts() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Policy == Required || c.Policy == Shared && !c.passed
}

// join returns the run under way and starts one if there is none. The caller holds the lock.
func (c *check) join() *run {
	if c.current != nil {
		return c.current
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout) // not the asker's: others join this run
	r := &run{ctx: ctx, done: make(chan struct{})}
	c.current = r
	go func() {
		defer cancel()
		err := c.guarded(ctx)
		if ctx.Err() != nil {
			err = c.late()
		}
		c.mu.Lock()
		r.err, c.current = err, nil
		c.passed = c.passed || err == nil
		c.mu.Unlock()
		close(r.done)
	}()
	return r
}

func (c *check) guarded(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panicked: %v", p)
		}
	}()
	return c.Run(ctx)
}

func (c *check) late() error { return fmt.Errorf("no answer within %v", c.Timeout) }

// wait returns the run's result, or a failure at its deadline, or when nobody waits any more.
func (c *check) wait(ctx context.Context, r *run) error {
	select {
	case <-r.done:
	case <-r.ctx.Done():
	case <-ctx.Done():
	}
	select {
	case <-r.done: // also when the run's context ended because the run did
		return r.err
	default:
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return c.late()
}

// loop runs the check in the background until ctx ends, or a latching check has passed.
func (c *check) loop(ctx context.Context) {
	for {
		c.mu.Lock()
		r := c.join()
		c.mu.Unlock()
		err := c.wait(ctx, r)
		if ctx.Err() != nil {
			return
		}
		if c.record(err) {
			c.changed()
		}
		if err == nil && c.latch {
			return
		}
		select {
		case <-time.After(c.Every):
		case <-ctx.Done():
			return
		}
	}
}

// record keeps a background result and reports whether it differs from the one before.
func (c *check) record(err error) (differs bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	differs = (c.last == nil) != (err == nil)
	c.last = err
	return differs
}
