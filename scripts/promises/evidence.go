package promises

import (
	"fmt"
	"time"
)

// gone reports whether a container that was up was seen gone twice since T0; a log tells of it once.
func (w *Watch) gone(p *Pod, id int) bool {
	if id < 0 {
		return false
	}
	h := &w.hooks[id]
	return h.seenUp && h.live == Gone && (p.Log != nil || h.goneSince >= w.t0 && h.liveAt-h.goneSince >= goneTwice)
}

// ended reports whether a container is proved to have ended. An app that was told to drain may close its port and live on.
func (w *Watch) ended(p *Pod, id int) bool {
	if !w.gone(p, id) || !w.toldApp(p, id) || id == p.proxy() || p.Log != nil {
		return w.gone(p, id)
	}
	for i, who := range p.Sources {
		if who == id && (w.busy&w.closed)>>i&1 != 0 {
			return true
		}
	}
	return false
}

// toldApp reports whether a container, if it is an app, was told to drain, which nobody can take back.
func (w *Watch) toldApp(p *Pod, id int) bool {
	return (w.asked|w.done)&TellApp != 0 || w.hooks[id].told && p.Log == nil
}

// mayLive reports whether an app that was told to drain may live, although its port is closed: the newest look at its count was not
// refused, and the port was not open when its hook was answered.
func (w *Watch) mayLive(p *Pod, id int) bool {
	if h := &w.hooks[id]; !w.toldApp(p, id) || p.Log != nil || h.released && h.open {
		return false
	}
	for i, who := range p.Sources {
		if who == id && w.closed>>i&1 == 0 {
			return true
		}
	}
	return false
}

// died reports whether a container ended in this stop although nobody let it go.
func (w *Watch) died(p *Pod, id int) bool {
	h := &w.hooks[id]
	byKubelet := w.sigterm && !w.called(id) && (w.trigger.Has(id) && !w.doubted.Has(id) || w.nobodyCalled())
	return w.ended(p, id) && (h.upAt >= w.t0 || w.called(id)) && !w.letGo(p, id) && !byKubelet
}

// letGo reports whether a container ended after its hook was answered: in this stop, or within its share of an answer in one that was
// given up; within the grace period of one that a repeated call took back, and that may go on.
func (w *Watch) letGo(p *Pod, id int) bool {
	_, _, scale := p.budget()
	h := &w.hooks[id]
	after, within := h.goneSince-h.letGoAt, scaled(p.share(p.stage(id)), scale)
	if w.takenAt != 0 && w.takenAt >= h.letGoAt {
		within = p.Grace
	}
	return h.released && h.answered <= h.goneSince || h.letGoAt > 0 && after >= 0 && after <= within
}

// firstOf is T0: of the stop that runs, or of the one that begins with this decision.
func (w *Watch) firstOf(*Decision) time.Duration {
	if w.t0 != 0 {
		return w.t0
	}
	return w.firstSignal()
}

func (w *Watch) silenceEnd(p *Pod) time.Duration { return w.t0 + p.Propagation + p.QuietMax }

// notZero says which source does not read zero, fresh, at since or later.
func (w *Watch) notZero(p *Pod, since time.Duration) string {
	if p.Admin && !w.gone(p, p.proxy()) {
		if why := w.not0(p, "proxy", w.proxy, since); why != "" {
			return why
		}
	}
	for i, who := range p.Sources {
		switch r := w.apps[i]; {
		case p.Containers[who].Worker:
		case w.gone(p, who) && (!w.toldApp(p, who) || w.closed>>i&1 != 0 || p.Log != nil && !r.fresh(w.now)):
		default:
			if why := w.not0(p, p.name(who), r, since); why != "" {
				return why
			}
		}
	}
	return ""
}

func (w *Watch) not0(p *Pod, who string, r Reading, since time.Duration) string {
	switch {
	case !r.Known, p.Log == nil && !r.fresh(w.now):
		return fmt.Sprintf("%s is unknown: %+v at %v", who, r, w.now)
	case r.N != 0:
		return fmt.Sprintf("%s has %d in flight", who, r.N)
	case p.Log == nil && r.At < since:
		return fmt.Sprintf("%s was read at %v, before %v", who, r.At, since)
	}
	return ""
}

// ownBytes is what stands in Envoy's buffers and moves.
func (w *Watch) ownBytes() int64 {
	if w.own.At-w.ownSince >= stallAfter {
		return 0
	}
	return w.own.N
}

// bytesMove reports whether bytes are known to be on their way.
func (w *Watch) bytesMove(p *Pod) bool {
	own := p.Admin && !w.gone(p, p.proxy()) && w.own.fresh(w.now) && w.ownBytes() > 0
	return own || w.queued.fresh(w.now) && w.queued.N > 0
}

// bytesUnderWay says that bytes are on their way, or may be.
func (w *Watch) bytesUnderWay(p *Pod, since time.Duration) string {
	envoy := p.Admin && !w.gone(p, p.proxy())
	known := w.queued.fresh(w.now) && (!envoy || w.own.fresh(w.now))
	switch {
	case p.Log != nil, !p.Admin && len(p.Sources) == 0:
		return ""
	case w.bytesMove(p):
		return fmt.Sprintf("bytes are on their way: %d in Envoy, %d in sockets", w.own.N, w.queued.N)
	case known && (w.queued.At < since || envoy && w.own.At < since):
		return "bytes were counted before that"
	case known, w.now >= w.silenceEnd(p), w.noneOpen():
		return ""
	}
	return "bytes are unknown"
}

// noneOpen reports whether no connection is open, as far as the best look shows.
func (w *Watch) noneOpen() bool {
	if w.conns.fresh(w.now) {
		return w.conns.N == 0
	}
	return w.socks.fresh(w.now) && w.socks.N == 0
}

// looked is when new connections were looked for last, 0 when nobody can.
func (w *Watch) looked() time.Duration {
	for _, c := range []*counter{&w.opened, &w.peers, &w.rqs} {
		if c.last.fresh(w.now) {
			return c.last.At
		}
	}
	return 0
}

// forced reports whether something other than a zero ends the drain with this decision.
func (w *Watch) forced(p *Pod, d *Decision) bool {
	return nobodyLeft(w, p, d, Stranger) || timeOver(w, p, d, Stranger) || w.patience != 0 || w.finish
}

// timeWasOver reports whether the time was over when stopping began.
func (w *Watch) timeWasOver(p *Pod) bool {
	first, last, _ := p.budget()
	return w.stopAt >= w.t0+first || w.now >= w.t0+last || p.DrainMax > 0 && w.stopAt >= w.began+p.DrainMax
}

// workDied reports whether every container that does the work has ended, and one of them was not let go.
func (w *Watch) workDied(p *Pod) bool {
	died := false
	for id := range p.Containers {
		c := &p.Containers[id]
		if c.Agent || c.Proxy || !p.Hooks.Has(id) && !p.counted(id) {
			continue
		}
		if !w.ended(p, id) {
			return false
		}
		died = died || w.died(p, id)
	}
	return died
}

// goneUnasked reports whether one of these containers is gone and was not let go before.
func (w *Watch) goneUnasked(p *Pod, is func(*Container) bool) bool {
	for id := range p.Containers {
		if h := &w.hooks[id]; is(&p.Containers[id]) && h.live == Gone && !w.letGo(p, id) {
			return true
		}
	}
	return false
}

func (w *Watch) exitWithEnded(p *Pod) bool {
	for id := range p.Containers {
		if p.ExitWith.Has(id) && !w.gone(p, id) {
			return false
		}
	}
	return p.ExitWith != 0
}

// idle reports whether a container that is being replaced has nothing in flight, as far as anybody counts for it.
func (w *Watch) idle(p *Pod, id int) bool {
	if id < len(p.Containers) && p.Containers[id].Agent {
		return true
	}
	if id == p.proxy() {
		return w.not0(p, "", w.proxy, 0) == ""
	}
	counted := false
	for i, who := range p.Sources {
		if who == id {
			if counted = true; w.not0(p, "", w.apps[i], 0) != "" {
				return false
			}
		}
	}
	return counted
}

// sleeping reports whether, in observe mode, some container still sleeps or still stops.
func (w *Watch) sleeping(p *Pod, d *Decision) bool {
	_, last, _ := p.budget()
	if !p.Observe || w.patience != 0 || w.now >= w.firstOf(d)+last {
		return false
	}
	for id := range p.Containers {
		c := &p.Containers[id]
		if !c.Agent && w.called(id) && (w.hooks[id].held && !d.Answered.Has(id) || d.To.terminating() && !c.Outlives && !w.gone(p, id)) {
			return true
		}
	}
	return false
}

// unseenSince reports whether Envoy was not seen since all that did the work has ended, half a second ago at most.
func (w *Watch) unseenSince(p *Pod) bool {
	proxy := p.proxy()
	if proxy < 0 || !w.hooks[proxy].seenUp {
		return false
	}
	last := time.Duration(0)
	for id := range p.Containers {
		if w.died(p, id) && id != proxy {
			last = max(last, w.hooks[id].goneSince)
		}
	}
	return w.hooks[proxy].upAt <= last && w.now < last+500*time.Millisecond
}

// proxyWentFirst reports whether Envoy is proved to have ended before every app that ended, without having been let go.
func (w *Watch) proxyWentFirst(p *Pod) bool {
	proxy := p.proxy()
	if p.Log != nil || proxy < 0 || !w.died(p, proxy) {
		return false
	}
	for id := range p.Containers {
		if c := &p.Containers[id]; !c.Agent && !c.Proxy && w.hooks[id].live == Gone && w.hooks[id].goneSince < w.hooks[proxy].goneSince {
			return false
		}
	}
	return true
}

// unwatched reports whether a worker was let go whose end nothing shows but kubelet's SIGTERM.
func (w *Watch) unwatched(p *Pod) bool {
	for id, c := range p.Containers {
		if c.Worker && c.Outlives && w.hooks[id].released && !p.Observe {
			return true
		}
	}
	return false
}

// workOver is when the wait for such a worker's end is over, 0 where there is none.
func (w *Watch) workOver(p *Pod) time.Duration {
	switch {
	case !w.unwatched(p):
		return 0
	case w.sigterm:
		return w.sigtermAt
	}
	return w.t0 + p.Grace + p.AbortAfter
}

// workUnseen reports whether kubelet did not tell of that end, or told when it had killed the worker; a log may not say when it did.
func (w *Watch) workUnseen(p *Pod) bool {
	return p.Log == nil && w.unwatched(p) && (!w.sigterm || w.sigtermAt >= w.t0+p.Grace-time.Second)
}
