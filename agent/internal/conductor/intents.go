package conductor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// intentNames are how the journal and people call those who may want maintenance.
var intentNames = map[drain.Intent]string{ //nolint:gochecknoglobals // a table
	drain.Operator: "operator", drain.DrainFile: "drain_file", drain.EarlierAgent: "earlier_agent",
}

// Operate carries out an operator's verb. The reason stands in the timeline.
func (c *Conductor) Operate(verb, reason string) (string, error) {
	kinds := map[string]drain.Kind{"drain": drain.AskedDrain, "undrain": drain.AskedUndrain, "finish": drain.AskedFinish}
	kind, ok := kinds[verb]
	if !ok {
		return "", fmt.Errorf("carry out %q: unknown verb; want drain, undrain or finish", verb)
	}
	c.mu.Lock()
	phase, err := c.state.Phase, c.allowed(kind)
	c.mu.Unlock()
	if err != nil {
		return "", err
	}
	c.deliver(message{Input: drain.Input{Kind: kind, By: drain.Operator}, text: clip(reason, maxReason)})
	return fmt.Sprintf("%s accepted in phase %s", verb, phase), nil
}

// Intend says whether somebody wants maintenance. It is never refused: what the phase does not allow now is done when it does.
func (c *Conductor) Intend(by drain.Intent, wanted bool, reason string) {
	kind := drain.AskedUndrain
	if wanted {
		kind = drain.AskedDrain
	}
	c.deliver(message{Input: drain.Input{Kind: kind, By: by}, text: reason})
}

// allowed tells an operator what cannot be done now. The caller holds the lock.
func (c *Conductor) allowed(kind drain.Kind) error {
	phase, rest := c.state.Phase, c.state.Wanted.Without(drain.Operator)
	switch {
	case kind == drain.AskedDrain && phase != drain.Serving && phase != drain.Maintenance:
		return fmt.Errorf("only possible while serving; the phase is %s", phase)
	case kind == drain.AskedUndrain && phase != drain.Maintenance:
		return fmt.Errorf("only possible in maintenance; the phase is %s", phase)
	case kind == drain.AskedUndrain && rest == c.state.Wanted && rest != 0:
		return fmt.Errorf("not the operator's to undo: %s; remove the file", c.reasons[drain.DrainFile])
	case kind == drain.AskedFinish && (phase == drain.Serving || phase == drain.Maintenance || phase == drain.Finished):
		return fmt.Errorf("nothing is being drained; the phase is %s", phase)
	}
	return nil
}

// noteIntents keeps the reasons of those who want maintenance, and the journal in step with them. The caller holds the lock.
func (c *Conductor) noteIntents(m message, before drain.Intents) {
	switch m.Kind {
	case drain.AskedDrain, drain.AskedUndrain, drain.AskedFinish:
		c.track.asked = m.text
	case drain.Restored:
		if m.text != "" {
			c.track.asked = m.text
		}
	default:
	}
	if m.Kind == drain.AskedDrain {
		c.reasons[m.By] = m.text
	}
	now := c.state.Wanted
	maps.DeleteFunc(c.reasons, func(i drain.Intent, _ string) bool { return !now.Has(i) })
	if now == before && m.Kind != drain.AskedDrain || m.Kind == drain.Restored {
		return
	}
	wanted := map[string]string{}
	for intent, name := range intentNames {
		if now.Has(intent) {
			wanted[name] = c.reasons[intent]
		}
	}
	if err := c.journal.wanted(wanted); err != nil {
		c.record(timeline.Event{Level: timeline.LevelWarn, Reason: "a restarted agent would forget the maintenance: " + err.Error()})
	}
}

// restore hands the core what an earlier agent process left behind: on the Envoy of this epoch, or "" before any was seen.
func (c *Conductor) restore(epoch string) {
	e, err := c.journal.load(epoch)
	c.mu.Lock()
	if err != nil {
		c.record(timeline.Event{Level: timeline.LevelWarn, Reason: err.Error()})
	}
	left := drain.Journal{HealthFailed: e.HealthFailed}
	var text []string
	if epoch == "" { // once
		left.Ended = e.Ended != ""
		for intent, name := range intentNames {
			if reason, ok := e.Wanted[name]; ok {
				left.Wanted = left.Wanted.With(intent)
				c.reasons[intent] = reason
				text = append(text, reason)
			}
		}
	}
	c.mu.Unlock()
	if left != (drain.Journal{}) {
		slices.Sort(text)
		c.deliver(message{Input: drain.Input{Kind: drain.Restored, Journal: left}, text: strings.Join(slices.DeleteFunc(text, func(s string) bool { return s == "" }), "; ")})
	}
}
