package conductor

import (
	"context"
	"fmt"
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
type call struct{ reply chan answered }

// hooks keeps the callers. It has a lock of its own, so that they can be answered when the loop hangs.
type hooks struct {
	mu      sync.Mutex
	waiting map[drain.ID][]*call
	barking *time.Timer // the watchdog
}

// Hook reports that a container's stop hook was called and blocks until it may be answered; unknown names are held too. When ctx
// ends it returns, and the call stays a fact.
func (c *Conductor) Hook(ctx context.Context, container string, authentic bool) Answer {
	began := time.Now()
	id := c.cfg.Policy.Find(container)
	mine := c.hooks.join(id)
	defer c.hooks.leave(id, mine)
	c.hooks.arm(c)
	if id == drain.Stranger {
		c.unknown(container)
	}
	c.send(drain.Input{Kind: drain.HookCalled, Container: id, Authentic: authentic})
	var got answered
	select {
	case got = <-mine.reply:
	case <-c.ended:
		select {
		case got = <-mine.reply:
		default:
			got = c.lastAnswer()
		}
	case <-ctx.Done():
		got.phase = "gave up"
	}
	return Answer{Container: container, Held: time.Since(began), Phase: got.phase, Outcome: got.outcome}
}

func (c *Conductor) unknown(container string) {
	c.cfg.Metrics.UnknownHook()
	c.record(timeline.Event{
		Level:  timeline.LevelError,
		Reason: fmt.Sprintf("hook of unknown container %q: held with the first stage; --hooks does not name it", clip(container)),
	})
}

// clip bounds what a stranger can put into the log.
func clip(text string) string {
	if len(text) > 64 {
		return text[:64] + "..."
	}
	return text
}

func (h *hooks) join(id drain.ID) *call {
	h.mu.Lock()
	defer h.mu.Unlock()
	mine := &call{reply: make(chan answered, 1)}
	h.waiting[id] = append(h.waiting[id], mine)
	return mine
}

func (h *hooks) leave(id drain.ID, mine *call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.waiting[id]
	for i, one := range all {
		if one == mine {
			h.waiting[id] = append(all[:i:i], all[i+1:]...)
			return
		}
	}
}

func (h *hooks) answer(id drain.ID, with answered) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, one := range h.waiting[id] {
		one.reply <- with
	}
	delete(h.waiting, id)
	if len(h.waiting) == 0 && h.barking != nil {
		h.barking.Stop()
		h.barking = nil
	}
}

func (h *hooks) answerAll(with func() answered) {
	last := with()
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, all := range h.waiting {
		for _, one := range all {
			one.reply <- last
		}
		delete(h.waiting, id)
	}
}

// arm sets the watchdog with the first fact. It barks a little after the time by which the loop must have answered.
func (h *hooks) arm(c *Conductor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.barking != nil {
		return
	}
	b := c.cfg.Policy.Budget()
	h.barking = time.AfterFunc(b.Hard+min(b.Margin/4, 500*time.Millisecond), c.bark)
}

// bark answers every hook without the loop, because the loop did not. The state is not locked: whoever hangs may hold the lock.
func (c *Conductor) bark() {
	select {
	case <-c.ended:
		return
	default:
	}
	c.hooks.mu.Lock()
	waiting := len(c.hooks.waiting)
	c.hooks.mu.Unlock()
	if waiting == 0 {
		c.hooks.mu.Lock()
		c.hooks.barking = nil
		c.hooks.mu.Unlock()
		return
	}
	c.hooks.answerAll(func() answered { return answered{phase: "watchdog", outcome: drain.Watchdog.String()} })
	c.end(drain.Watchdog.ExitCode())
	go func() { // the recorder may be what hangs
		budget := c.cfg.Policy.Budget()
		c.cfg.Metrics.Verdict(drain.Watchdog.String(), budget.Hard)
		c.cfg.Recorder.Conclude(timeline.Verdict{
			Time: time.Now(), Level: timeline.LevelError, Outcome: drain.Watchdog.String(), TotalMS: budget.Hard.Milliseconds(),
			Trigger: "hook or SIGTERM", Reason: "the agent's loop did not answer in time; the watchdog answered every hook",
		})
	}()
}

// lastAnswer is for callers that meet the end of the agent.
func (c *Conductor) lastAnswer() answered {
	if !c.mu.TryLock() {
		return answered{phase: "watchdog", outcome: drain.Watchdog.String()}
	}
	defer c.mu.Unlock()
	return answered{phase: c.state.Phase.String(), outcome: c.state.Ending.String()}
}
