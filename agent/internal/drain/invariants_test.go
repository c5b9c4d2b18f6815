package drain

import "fmt"

// violated names the first promise that a decision broke, or returns "".
func violated(w *world, before State, in Input, d Decision) string {
	p, s := &w.p, &w.s
	for id := ID(0); id <= Stranger; id++ {
		h := s.Hooks[id]
		if h.Held && s.Now > h.Called+p.Budget().Hard {
			return fmt.Sprintf("hook of %s held for %v", p.Name(id), s.Now-h.Called)
		}
		if d.Release.Has(id) {
			if why := earlyAnswer(w, &before, id, d); why != "" {
				return fmt.Sprintf("hook of %s answered: %s", p.Name(id), why)
			}
		}
	}
	switch {
	case d.Do&DrainInbound != 0 && !s.Authentic, d.Do&HandOver != 0 && !s.proved(p):
		return "irreversible action without an unforgeable fact"
	case d.Release.Has(proxy) && owedToOwner(p, s):
		return "hook of proxy answered before its owner was told"
	case p.Observe && d.Do&^(FailHealth|PassHealth) != 0, p.Observe && d.Do != 0 && !s.Operated && d.Do&FailHealth != 0:
		return "observe mode did " + d.Do.String()
	case before.Said && (d.Verdict != None || d.Do != 0):
		return "something was decided after the verdict"
	case w.exited && !d.Exit:
		return "the end is taken back"
	case d.Do&Quit != 0 && !s.Over:
		return "Envoy is told to quit before the stop is proved"
	case before.Over && d.From != d.To:
		return "finished is not absorbing"
	case before.Over && !before.Said && !s.Said && s.Now >= s.Since+quitWithin:
		return "the verdict is late"
	case s.Over && s.Held() != 0:
		return "a hook is held although all is decided"
	case d.Exit && !s.Said:
		return "exit without a verdict"
	case d.Exit && !s.Sigterm && before.T0 != 0 && s.Now < s.Since+p.AbortAfter:
		return "the agent ends in the moment in which kubelet stops it"
	case s.Said && !d.Exit && s.Now >= s.Since+p.AbortAfter:
		return "the agent outlives its verdict"
	case !d.Exit && d.Wake == Never:
		return "no wake time in " + s.Phase.String()
	case d.Verdict == ContainerRestart && s.Want&^PassHealth != 0 && !s.Operated:
		return "a container stop left " + s.Want.String()
	case d.From.Terminating() && d.To < Announcing && d.Verdict == None:
		return "a drain ended without a verdict"
	}
	return ""
}

// earlyAnswer checks the two rules of an answer: the app not before zero, the proxy not before the app's stage is over.
func earlyAnswer(w *world, before *State, id ID, d Decision) string {
	p, s := &w.p, &w.s
	pardoned := s.gone(id) || s.Ending == FinishedByOperator || s.Ending == ProxyDied || s.Ending == AppDied || s.Ending == ContainerRestart || d.Verdict == ContainerRestart ||
		d.Verdict == FinishedByOperator || s.Hard != 0 || s.Ending == Deadline || before.Hooks[id].Released || before.Over || p.Observe || d.Verdict == Aborted
	if pardoned {
		return ""
	}
	if s.Ending != Clean {
		return "no ending, in " + s.Phase.String()
	}
	stage := p.stage(id)
	if stage == 0 {
		if why, ok := before.zero(p, 0); !ok && before.Phase < Stopping {
			return why.Text(p)
		}
		return tooSoon(w, before.Phase)
	}
	for i := range p.Containers {
		other := ID(i)
		if c := &p.Containers[i]; c.Stage < 0 || stage >= 0 && c.Stage >= stage || !s.called(other) || c.Outlives {
			continue
		}
		if !s.Hooks[other].Released || !s.gone(other) && s.Now < s.StageAt {
			return "before " + p.Name(other)
		}
	}
	return ""
}

// tooSoon says so when a connection came less than quiet-min before the newest look at them: that look must have shown it.
func tooSoon(w *world, in Phase) string {
	conns := w.s.newConns()
	if in != Settling || conns == nil || w.s.gone(proxy) || w.now >= w.s.Draining0+w.p.QuietMax {
		return ""
	}
	if seen := conns.Last.At; w.arrivedAt <= seen && w.arrivedAt > seen-w.p.QuietMin {
		return fmt.Sprintf("a connection came at %v, the last look was at %v", w.arrivedAt, seen)
	}
	return ""
}

// owedToOwner reports whether the owner of the proxy should have heard of the drain by now, and has neither heard nor failed.
func owedToOwner(p *Policy, s *State) bool {
	orderly := s.Phase == Stopping && s.Hard == 0 && s.Now < s.T0+p.Budget().Hard && !s.gone(proxy)
	return orderly && s.Facts.Handover && p.ProxyAdmin && !p.Observe && s.proved(p) && (s.Done|s.Failed)&HandOver == 0 &&
		(s.HandAt == 0 || s.Now < s.HandAt+scaled(handoverWithin, p.Budget().Scale))
}
