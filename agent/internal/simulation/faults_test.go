package simulation

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// during reports whether a fault is in force now.
func (p *pod) during(f fault) bool {
	from := p.sc.Warm + f.From
	return f.Kind != "" && p.now >= from && p.now < from+f.For
}

func (p *pod) faulty(kind string) bool {
	for _, f := range p.sc.Faults {
		if p.during(f) && (f.Kind == kind || kind == "requests hidden" && f.Kind == "configuration pushed") {
			return true
		}
	}
	return false
}

// pushed reports whether Envoy's configuration has just become another one: its requests are unknown until it is described again.
func (p *pod) pushed(now time.Duration) bool {
	for _, f := range p.sc.Faults {
		if f.Kind == "configuration pushed" && now >= p.sc.Warm+f.From && now < p.sc.Warm+f.From+100*ms {
			return true
		}
	}
	return false
}

// delay is how long an answer takes instead of its usual time.
func (p *pod) delay(who string) time.Duration {
	for _, f := range p.sc.Faults {
		switch {
		case !p.during(f):
		case f.Kind == who+" hangs":
			return time.Hour
		case f.Kind == who+" slow":
			return f.Takes
		}
	}
	return 0
}

func (p *pod) has(kinds ...string) bool {
	for _, f := range p.sc.Faults {
		if slices.Contains(kinds, f.Kind) {
			return true
		}
	}
	return false
}

func (p *pod) planFaults() {
	for _, f := range p.sc.Faults {
		at := p.sc.Warm + f.From
		switch f.Kind {
		case "app dies":
			p.after(at, func() { p.endApp("fault") })
		case "proxy dies":
			p.after(at, func() { p.endEnvoy("fault") })
			go func() { // whose hook it carries hears of it then, and not when somebody looks next
				select {
				case <-time.After(at):
					p.with(func() {})
				case <-p.over:
				}
			}()
		case "operator finishes":
			go func() {
				select {
				case <-time.After(at):
				case <-p.agent().exited:
					return
				}
				if _, err := p.agent().Operate("finish", "test"); err == nil {
					p.with(func() { p.finishedAt = cmp.Or(p.finishedAt, p.now) })
				}
			}()
		}
	}
}

// callAgain calls the first hook once more, as anybody may, some time after it or the next one was answered.
func (p *pod) callAgain(answered string) {
	for _, f := range p.sc.Faults {
		if f.Kind != "called again" || answered != p.first() && answered != p.second() {
			continue
		}
		go func() {
			select {
			case <-time.After(f.Takes):
				p.agent().Hook(context.Background(), p.first(), false)
			case <-p.agent().exited:
			}
		}()
	}
}

// checkAct is the promise that nothing irreversible rests on what anybody in the cluster can forge.
func (p *pod) checkAct(a drain.Actions) {
	stopping := p.deletedAt > 0
	proved := stopping && (p.sc.Token || p.signal > 0)
	leaving := stopping && (p.app.told || !p.app.up || !p.envoy.up || p.app.portClosed)
	switch {
	case p.sc.Observe:
		p.breaks("observe mode did " + a.String())
	case a == drain.Quit && p.sc.Job && !p.app.up: // its end is the proof
	case a == drain.DrainInbound && !proved, a&(drain.HandOver|drain.Quit) != 0 && !proved && !leaving:
		p.breaks(a.String() + " without anything that cannot be forged")
	}
}

// checkUntouched is the promise that a pod which lives on is as it was.
func (p *pod) checkUntouched(when string) {
	if p.envoy.failed || p.envoy.draining {
		p.breaks("Envoy is not as it was " + when)
	}
}

func (p *pod) breaks(what string) {
	p.note("BROKEN: " + what)
	p.broken = append(p.broken, what)
}
