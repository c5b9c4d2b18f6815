package promises

import "time"

// enter writes down what a change of phase begins or ends.
func (w *Watch) enter(p *Pod, d *Decision) {
	if (d.To == Confirming || d.To.terminating() && !d.From.terminating()) && w.signals(p) != 0 {
		w.t0 = w.beginning(p, d)
		w.trigger, w.doubted = w.signals(p)|w.leaving(p), 0
		for id := range p.Containers {
			if h := &w.hooks[id]; p.Log != nil && h.live == Gone && w.now-h.goneSince < nextLook {
				w.doubted |= 1 << id
			}
		}
	}
	if d.To.terminating() && !d.From.terminating() {
		w.finish = false
		w.bury(p)
	}
	if d.To == Draining && w.began == 0 {
		w.began = w.now
	}
	if d.To == Stopping {
		w.stopAt, w.zeroStop = w.now, d.From == Settling && !w.finish && settledZero(w, p, d, Stranger)
	}
	if d.To == Serving || d.To == Maintenance {
		w.takenAt = 0
		if d.From.terminating() {
			w.takenBack(p, d)
		}
		w.rest(p)
	}
	w.phase, w.since = d.To, w.now
}

// beginning is T0 of the stop, or of what may become one, that begins with this decision.
func (w *Watch) beginning(p *Pod, d *Decision) time.Duration {
	t0 := w.firstSignal()
	if a := p.agent(); w.sigterm && a >= 0 && d.To.terminating() && w.hooks[a].called > 0 && w.sigtermAt < w.hooks[a].called+p.Grace+p.AbortAfter {
		return min(t0, w.hooks[a].called) // kubelet sends SIGTERM after our own hook, whatever came of that
	}
	return t0
}

// rest forgets a stop that was none.
func (w *Watch) rest(p *Pod) {
	for id := range w.hooks {
		w.hooks[id].released, w.hooks[id].told = false, w.toldApp(p, id)
	}
	w.t0, w.began, w.stopAt, w.zeroStop, w.trigger, w.patience, w.proved, w.handAt = 0, 0, 0, false, 0, 0, 0, 0
	w.token, w.finish, w.late, w.unsaid = false, false, 0, 0
	w.turn = [MaxContainers + 1]time.Duration{}
	w.done &^= TellApp
}

func (w *Watch) firstSignal() time.Duration {
	first := w.now
	for id := range w.hooks {
		if w.called(id) {
			first = min(first, w.hooks[id].called)
		}
	}
	if w.sigterm {
		first = min(first, w.sigtermAt)
	}
	return first
}
