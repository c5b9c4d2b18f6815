package conductor

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// Answer is what a hook's caller is told.
type Answer struct {
	Container string
	Held      time.Duration
	Phase     string
	Outcome   string // "" while the drain is not over
}

type answered struct{ phase, outcome string }

// call is one caller that waits.
type call struct {
	reply chan answered
	since time.Time
	done  bool // guarded by hooks.mu
}

// hooks keeps the callers. It has a lock of its own, so that they can be answered when the loop hangs.
type hooks struct {
	mu      sync.Mutex
	waiting map[drain.ID][]*call
	sigterm bool
	barking *time.Timer // the watchdog
}

// Hook reports that a container's stop hook was called and blocks until it may be answered; unknown names are held too. When ctx
// ends it returns, and the call stays a fact.
func (c *Conductor) Hook(ctx context.Context, container string, authentic bool) Answer {
	id := c.cfg.Policy.Find(container)
	mine := c.hooks.join(c, id)
	defer c.hooks.leave(id, mine)
	m := message{Input: drain.Input{Kind: drain.HookCalled, Container: id, Authentic: authentic}, call: mine}
	if id == drain.Stranger {
		c.cfg.Metrics.UnknownHook()
		m.text = clip(container, maxName)
	}
	c.deliver(m)
	var got answered
	select {
	case got = <-mine.reply:
	case <-c.ended:
		select {
		case got = <-mine.reply:
		default:
			got = *c.last.Load()
		}
	case <-ctx.Done():
		got.phase = "gave up"
	}
	return Answer{Container: container, Held: time.Since(mine.since), Phase: got.phase, Outcome: got.outcome}
}

const (
	maxName   = 64  // of an unknown container, in bytes
	maxReason = 512 // of an operator
)

// clip bounds what others can put into the log.
func clip(text string, limit int) string {
	if len(text) > limit {
		return strings.ToValidUTF8(text[:limit], "") + "..."
	}
	return text
}

func (h *hooks) join(c *Conductor, id drain.ID) *call {
	h.mu.Lock()
	defer h.mu.Unlock()
	mine := &call{reply: make(chan answered, 1), since: time.Now()}
	h.waiting[id] = append(h.waiting[id], mine)
	h.arm(c, watchdogAfter(c))
	return mine
}

func (h *hooks) leave(id drain.ID, mine *call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.waiting[id], mine); i >= 0 {
		h.waiting[id] = slices.Delete(h.waiting[id], i, i+1) // the key stays: the fact does too
	}
}

func (h *hooks) answeredBefore(one *call) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return one.done
}

// answer answers one hook's callers. None of them is left where what lies between us and kubelet was severed: kubelet did not wait.
func (h *hooks) answer(id drain.ID, with answered) (callers int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	callers = len(h.waiting[id])
	h.release(id, with)
	if len(h.waiting) == 0 && !h.sigterm {
		h.disarm()
	}
	return callers
}

func (h *hooks) answerAll(with answered) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range h.waiting {
		h.release(id, with)
	}
	h.disarm()
}

func (h *hooks) release(id drain.ID, with answered) {
	for _, one := range h.waiting[id] {
		one.done = true
		one.reply <- with
	}
	delete(h.waiting, id)
}

// watchdogAfter is how long after the first fact the watchdog barks: a little after the loop must have answered, well before the
// grace period ends.
func watchdogAfter(c *Conductor) time.Duration {
	b := c.cfg.Policy.Budget()
	return b.Hard + min(b.Margin/4, 500*time.Millisecond)
}

// arm sets the watchdog with the first fact.
func (h *hooks) arm(c *Conductor, after time.Duration) {
	if h.barking == nil {
		h.barking = time.AfterFunc(after, c.bark)
	}
}

func (h *hooks) disarm() {
	if h.barking != nil {
		h.barking.Stop()
		h.barking = nil
	}
}

func (h *hooks) terminated(c *Conductor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sigterm = true
	h.arm(c, watchdogAfter(c))
}

// rearm is for the end of a drain. Where the agent lives on, a call that still waits begins the next one; else the core ends it soon.
func (h *hooks) rearm(c *Conductor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case c.state.Over:
		h.disarm()
		h.arm(c, c.cfg.Policy.AbortAfter+2*time.Second)
		return
	case h.sigterm:
		return
	}
	h.disarm()
	oldest := time.Duration(-1)
	for _, all := range h.waiting {
		for _, one := range all {
			oldest = max(oldest, time.Since(one.since))
		}
	}
	if oldest >= 0 {
		h.arm(c, watchdogAfter(c)-oldest)
	}
}

// bark answers every hook without the loop, because the loop did not. The state is not locked: whoever hangs may hold the lock.
func (c *Conductor) bark() {
	if c.over() {
		return
	}
	if c.spoken.Load() {
		c.hooks.answerAll(*c.last.Load())
		c.end(int(c.code.Load()), nil)
		return
	}
	last := answered{phase: "watchdog", outcome: drain.Watchdog.String()}
	c.last.Store(&last)
	c.hooks.answerAll(last)
	c.end(c.exitCode(drain.Watchdog), c.concludeWithoutLoop)
}

func (c *Conductor) concludeWithoutLoop() {
	spent := watchdogAfter(c)
	c.cfg.Metrics.Verdict(drain.Watchdog.String(), spent)
	c.cfg.Recorder.Conclude(timeline.Verdict{
		Time: time.Now(), Level: timeline.LevelError, Outcome: drain.Watchdog.String(), TotalMS: spent.Milliseconds(),
		Trigger: "hook or SIGTERM", Reason: "the agent's loop did not answer in time; the watchdog answered every hook",
	})
}
