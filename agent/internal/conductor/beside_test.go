package conductor

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// An app that is slow to answer its drain URL keeps nobody waiting: Envoy and its owner are told beside it.
func TestSlowDrainURLDelaysNobody(t *testing.T) {
	plain := stopWith(t, func(p *pod) { p.cfg.Policy.AppDrain = false })
	slow := stopWith(t, func(p *pod) {
		p.cfg.Policy.AppDrain = true
		p.onAct = func(ctx context.Context, a drain.Actions) error {
			if a == drain.TellApp {
				<-ctx.Done()
				return errors.New("too slow")
			}
			return nil
		}
	})
	for _, a := range []string{"drain_listeners", "handover"} {
		if at, want := slow[a], plain[a]; at == 0 || at != want {
			t.Errorf("%s at %v beside a slow drain URL, at %v without one: %v", a, at, want, slow)
		}
	}
	if slow["answer proxy"] != plain["answer proxy"] {
		t.Errorf("the proxy was released at %v, without the drain URL at %v", slow["answer proxy"], plain["answer proxy"])
	}
}

// stopWith stops a pod whose Envoy has an owner, and returns when things were done and answered.
func stopWith(t *testing.T, change func(p *pod)) map[string]time.Duration {
	t.Helper()
	at := map[string]time.Duration{}
	bubble(t, func(t *testing.T, p *pod) {
		p.owned, p.cfg.Policy.Settle = true, offBeat
		change(p)
		p.start()
		p.pass(5 * time.Second)
		p.c.Terminate() // a proof: what cannot be undone may be done
		p.stopAll()
		p.code()
		if v := p.verdict(); v.Outcome != "clean" {
			t.Errorf("outcome %s\n%s", v.Outcome, p.story())
		}
		for _, l := range p.lines {
			if l.Event != nil && (l.Event.Result == "ok" || slices.Contains([]string{"answer app", "answer proxy"}, l.Event.Action)) {
				at[l.Event.Action] = time.Duration(l.Event.ElapsedMS) * time.Millisecond
			}
		}
	})
	return at
}
