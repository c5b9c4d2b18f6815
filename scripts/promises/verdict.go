package promises

// bears reports whether what was seen of this stop alone bears a verdict.
func (w *Watch) bears(p *Pod, d *Decision, verdict string) (held bool) {
	switch verdict {
	case "clean":
		held = (w.zeroStop || w.exitWithEnded(p) || p.Observe) && w.patience == 0 && w.late == 0 && (w.earlier == 0 || w.earlier&unsure != 0) && !w.workUnseen(p)
	case "deadline":
		held = w.zeroStop && w.late|w.unsaid != 0 || p.Log != nil && timeOver(w, p, d, Stranger) || w.timeWasOver(p) || w.patience != 0
	case "proxy_died":
		held = w.goneUnasked(p, func(c *Container) bool { return c.Proxy })
	case "app_died":
		held = w.goneUnasked(p, func(c *Container) bool { return !c.Proxy && !c.Agent }) && !w.proxyWentFirst(p)
	case "finished_by_operator":
		held = w.finish || p.Log != nil && w.finishAt > 0 && w.finishAt >= w.since // its verdict has a line of its own, after the phase
	case "aborted":
		held = !w.sigterm && (!w.token || w.lone(p)) && (p.Log != nil || !w.unforgeable(p)) // a log tells of one look, and it takes two
	case "container_restart":
		signals := w.signals(p)
		held = signals&(signals-1) == 0 || p.Observe
	default:
		held = true
	}
	return held
}

// worse are the verdicts that a stop which nothing proved leaves to the one that a repeated call began.
var worse = [...]string{"deadline", "proxy_died", "app_died", "finished_by_operator"}

// unsure says that the log does not tell enough to know that.
const unsure = 1 << 7

// takenBack notes what a stop would have ended with that a hook called again took back: the next one ends no better.
func (w *Watch) takenBack(p *Pod, d *Decision) {
	if w.held()&^d.Answered == 0 {
		w.earlier = 0 // nothing came after it: it was none
		return
	}
	w.takenAt = w.now
	var borne uint8
	for i, verdict := range worse {
		if w.stopAt != 0 && (!w.zeroStop || w.late|w.unsaid != 0) && w.bears(p, d, verdict) {
			borne |= 1 << i
		}
	}
	if borne == 0 {
		return
	}
	doubt := uint8(0)
	if w.zeroStop && w.late == 0 {
		doubt = unsure
	}
	switch w.earlyT0 = w.t0; {
	case w.earlier == 0:
		w.earlier = borne | doubt
	case w.earlier&unsure != 0: // it may have borne none, and this one its own
		w.earlier = w.earlier&^unsure | borne | doubt
	default:
	}
}

// bury forgets what an earlier stop would have ended with, when the one that begins comes so late that the pod of that one is dead.
func (w *Watch) bury(p *Pod) {
	switch late := w.t0 - (w.earlyT0 + p.Grace + p.AbortAfter); {
	case late > p.rounding():
		w.earlier = 0
	case late >= -p.rounding() && p.Log != nil && w.earlier != 0:
		w.earlier |= unsure
	}
}
