package promises

import "time"

// turns notes whose turn it has become.
func (w *Watch) turns(p *Pod) {
	for k := 0; k <= p.stages(); k++ {
		if w.turn[k] == 0 && w.overBefore(p, k) {
			w.turn[k] = w.now
		}
		if w.turn[k] == 0 {
			return
		}
	}
}

// overBefore reports whether all stages before this one are over: the hook of one may have come late.
func (w *Watch) overBefore(p *Pod, stage int) bool {
	for k := range stage {
		if !w.over(p, k) {
			return false
		}
	}
	return true
}

// over reports whether every container of a stage that has begun is gone or has used up its share.
func (w *Watch) over(p *Pod, stage int) bool {
	over := true
	_, last, _ := p.budget()
	for id := range p.Containers {
		c := &p.Containers[id]
		if c.Stage != stage || !w.called(id) || c.Outlives {
			continue
		}
		if w.gone(p, id) && !w.mayLive(p, id) {
			if p.Log != nil && (w.toldApp(p, id) && !c.Proxy || w.hooks[id].goneSince < w.t0) {
				w.unsaid |= 1 << id // no log says whether the count behind a closed port was refused, nor what came up again while the pod served
			}
			continue
		}
		if w.now+p.rounding() < w.shareEnd(p, id) {
			over = false
		} else if l := w.hooks[id].live; c.Proxy || p.Observe && w.now < w.t0+last {
			continue
		} else if l == Up || l == Leaving || w.mayLive(p, id) {
			w.late |= 1 << id
		} else if p.Log != nil { // it tells of changes only
			w.unsaid |= 1 << id
		}
	}
	return over
}

// shareEnd is when a container has used up its share. A worker's is all that the grace period leaves.
func (w *Watch) shareEnd(p *Pod, id int) time.Duration {
	_, last, scale := p.budget()
	c := &p.Containers[id]
	begun := w.turn[c.Stage]
	if next := w.turn[c.Stage+1]; next != 0 && w.hooks[id].released && w.hooks[id].answered >= next { // its hook came late
		begun = w.hooks[id].answered
	}
	end := begun + scaled(p.share(c.Stage), scale)
	switch { // no line of a log says when a turn began
	case p.Log != nil && c.Proxy: // its owner may have been told before it was let go
		end -= scaled(500*time.Millisecond, scale)
	case p.Log != nil: // lines of one moment are one decision, which the last of them dates
		end -= 20 * time.Millisecond
	}
	if c.Worker {
		end = max(end, w.t0+last-scaled(p.sharesAfter(c.Stage), scale))
	}
	return min(end, w.t0+last)
}

// Ending is the decision that a verdict's line in a log tells of.
func (w *Watch) Ending(outcome string) Decision {
	d := Decision{From: w.phase, To: w.phase, Verdict: outcome}
	before := outcome == "finished_by_operator" && !w.phase.terminating() // of one container that alone was being stopped
	if outcome != "container_restart" && outcome != "aborted" && outcome != "maintenance" && !before {
		d.To = Finished
	}
	return d
}
