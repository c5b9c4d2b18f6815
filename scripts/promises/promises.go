package promises

import (
	"fmt"
	"slices"
	"time"
)

// A hook is answered for one of the reasons of this page, and for no other: a request in flight keeps both containers alive.
func answeredForAReason(w *Watch, p *Pod, d *Decision) string {
	for id := range w.hooks {
		if !d.Answered.Has(id) {
			continue
		}
		known := false
		for _, reason := range reasons {
			known = known || reason(w, p, d, id)
		}
		if !known {
			return fmt.Sprintf("hook of %s, held since %v, in %d: proxy %+v, apps %+v", p.name(id), w.hooks[id].called, d.From, w.proxy, w.apps[:len(p.Sources)])
		}
	}
	return ""
}

// Reason: it is in the first stage, and nothing is in flight: every source and every count of bytes read zero when `--settle` began, and read zero again after it; bytes that nobody can count are none where no connection is open, or once `--quiet-max` is over.
func settledZero(w *Watch, p *Pod, d *Decision, id int) bool {
	return p.stage(id) == 0 && d.From == Settling && d.To == Stopping && (p.Log != nil || w.now >= w.since+p.Settle) &&
		w.notZero(p, w.since) == "" && w.bytesUnderWay(p, w.since) == "" && !p.Observe
}

// Reason: it is its stage's turn. Of every stage before, the containers whose hook came were let go and are gone, or have used up their share (a worker's is all that the grace period leaves); an app that closed its port on its drain URL, before its hook was answered, is gone when its count is refused too; who ends after the agent is not waited for. The agent's own hook comes last.
func itsTurn(w *Watch, p *Pod, d *Decision, id int) bool {
	if d.To < Stopping || w.stopAt == 0 && p.stage(id) == 0 {
		return false
	}
	for k := range p.stage(id) {
		for other := range p.Containers {
			if p.Containers[other].Stage == k && w.hooks[other].held && !d.Answered.Has(other) {
				return false
			}
		}
		if w.turn[k] == 0 && k == 0 {
			w.turn[k] = w.now
		}
		if !w.over(p, k) {
			return false
		}
	}
	return true
}

// Reason: its container is a worker, which only SIGTERM tells to take no more work, and the pod stop has been sure for `--confirm-window`.
func workerTold(w *Watch, p *Pod, d *Decision, id int) bool {
	_, last, _ := p.budget()
	return id < len(p.Containers) && p.Containers[id].Worker && d.To.terminating() && w.now >= w.firstOf(d)+min(p.Confirm, last)
}

// Reason: its own container has ended: it was up, and was seen gone twice. A port that an app closes after it was told to drain is no end, unless something was in flight and can no longer be read.
func ownEnd(w *Watch, p *Pod, d *Decision, id int) bool {
	if d.To.terminating() && !d.From.terminating() && w.signals(p) != 0 {
		begun := *w // as it is with this decision, whose T0 may lie before that of what was confirmed
		begun.t0 = w.beginning(p, d)
		w = &begun
	}
	return id < len(p.Containers) && w.ended(p, id) || w.phase == Holding && id < len(p.Containers) && w.gone(p, id)
}

// Reason: it is in the first stage, and Envoy has ended, or every container that does the work has: nobody is left to wait for.
func nobodyLeft(w *Watch, p *Pod, d *Decision, id int) bool {
	return p.stage(id) == 0 && d.To == Stopping && (p.proxy() >= 0 && w.died(p, p.proxy()) || w.workDied(p))
}

// Reason: the time is over: `--drain-max`, or what the stop shares and the margin leave of the grace period.
func timeOver(w *Watch, p *Pod, d *Decision, id int) bool {
	first, last, _ := p.budget()
	now := w.now + p.rounding()
	switch {
	case now >= w.firstOf(d)+last:
		return true
	case p.stage(id) != 0:
		return false
	}
	return now >= w.firstOf(d)+first || p.DrainMax > 0 && w.began > 0 && now >= w.began+p.DrainMax
}

// Reason: SIGTERM came while the agent's own hook was held: kubelet's patience is over.
func patienceOver(w *Watch, _ *Pod, _ *Decision, _ int) bool { return w.patience != 0 }

// Reason: an operator said `finish`; of the stages after the first each still has its turn.
func operatorFinish(w *Watch, p *Pod, d *Decision, id int) bool {
	return w.finish && (p.stage(id) == 0 || !d.To.terminating())
}

// Reason: only its container is being restarted, and has nothing in flight or was held for `--restart-max`.
func oneContainer(w *Watch, p *Pod, d *Decision, id int) bool {
	_, last, _ := p.budget()
	alone := d.From == Holding && w.signals(p)&^(1<<id) == 0
	return alone && !p.Observe && (w.idle(p, id) || w.now+p.rounding() >= w.hooks[id].called+min(p.RestartMax, last))
}

// Reason: it was answered in this stop before, or the stop is over: it is called again, or late.
func answeredBefore(w *Watch, _ *Pod, d *Decision, id int) bool {
	return w.hooks[id].released || d.From == Finished
}

// Reason: all containers that `--exit-with` names have ended.
func jobEnded(w *Watch, p *Pod, _ *Decision, _ int) bool { return w.exitWithEnded(p) }

// Reason: in observe mode, the sleep that it has today is over; an unknown name has none, and the agent's own hook is answered when nobody sleeps or stops any more.
func usualSleep(w *Watch, p *Pod, d *Decision, id int) bool {
	switch {
	case !p.Observe:
		return false
	case id >= len(p.Containers):
		return true
	case p.Containers[id].Agent:
		return !w.sleeping(p, d)
	}
	return w.now+p.rounding() >= w.hooks[id].called+p.Containers[id].Sleep
}

// What is let go stays let go, and what is decided stays decided: after the verdict of a pod stop nothing is done to anybody, and the agent that has ended does not come back.
func nothingAfterTheEnd(w *Watch, _ *Pod, d *Decision) string {
	switch {
	case w.final != "" && (d.Verdict != "" || d.Do != 0 || d.From != d.To):
		return fmt.Sprintf("%s after the verdict %s: did %b, went to %d", d.Verdict, w.final, d.Do, d.To)
	case w.exited && !d.Exit:
		return "the agent's end is taken back"
	case d.From == Finished && d.To != Finished && d.To.terminating():
		return "finished is left for another phase of the stop"
	}
	return ""
}

// A source that cannot be read, or was read longer ago than three of its periods (half a second where that is longer), is unknown: it keeps the drain where it is until its container has ended or the time is over.
func unknownHolds(w *Watch, p *Pod, d *Decision) string {
	switch {
	case d.To == Settling && d.From == Draining:
		return w.notZero(p, 0)
	case d.To == Stopping && d.From == Settling && !w.forced(p, d):
		if why := w.notZero(p, w.since); why != "" {
			return why
		}
		return w.bytesUnderWay(p, w.since)
	}
	return ""
}

// `--propagation` is kept to the millisecond, whatever else is over.
func propagationIsKept(w *Watch, p *Pod, d *Decision) string {
	now := w.now
	if p.Log != nil {
		now += 2 * time.Millisecond // the sum of two times that a log has in whole milliseconds
	}
	if d.To == Settling && now < w.t0+p.Propagation {
		return fmt.Sprintf("zero is believed %v after T0, propagation is %v", w.now-w.t0, p.Propagation)
	}
	return ""
}

// Nobody is let go while new connections come: none came for `--quiet-min`, as far as the newest look shows, or `--quiet-max` is over.
func newConnectionsAreOver(w *Watch, p *Pod, d *Decision) string {
	look := w.looked()
	if d.From != Settling || d.To != Stopping || w.forced(p, d) || w.gone(p, p.proxy()) || look == 0 || w.now >= w.silenceEnd(p) {
		return ""
	}
	if d.Arrived <= look && d.Arrived > look-p.QuietMin && d.Arrived > 0 {
		return fmt.Sprintf("a connection came at %v, the newest look was at %v", d.Arrived, look)
	}
	return ""
}

// Nobody is let go while the stopping score, the requests that this would hit, is above `--accept-loss`, or unknown, unless `--quiet-max` is over.
func scoreIsLow(w *Watch, p *Pod, d *Decision) string {
	if d.From != Settling || d.To != Stopping || w.forced(p, d) || w.gone(p, p.proxy()) || w.now >= w.silenceEnd(p) {
		return ""
	}
	if !d.Scored || d.Score > p.AcceptLoss {
		return fmt.Sprintf("let go with the score %v, known %v", d.Score, d.Scored)
	}
	return ""
}

// Every hook is answered before its deadline, T0 + grace period − margin; below the floor the margin and the stop shares shrink in proportion.
func heldNoLonger(w *Watch, p *Pod, d *Decision) string {
	_, last, _ := p.budget()
	if p.Log != nil {
		last = p.Grace + p.Log.Slack // a busy machine may use up the margin
	}
	for id := range w.hooks {
		h := &w.hooks[id]
		if h.held && !d.Answered.Has(id) && w.now > max(w.firstOf(d)+last, h.called) {
			return fmt.Sprintf("hook of %s is held %v after T0", p.name(id), w.now-w.firstOf(d))
		}
	}
	return ""
}

// When SIGTERM comes while the agent's own hook is held, all hooks are answered within one second, in their order.
func patienceIsUsed(w *Watch, p *Pod, d *Decision) string {
	limit := time.Second
	if p.Log != nil {
		limit += p.Log.Slack
	}
	if held := w.held() &^ d.Answered; w.patience != 0 && held != 0 && w.now > w.patience+limit {
		return fmt.Sprintf("hooks %b are held %v after SIGTERM", held, w.now-w.patience)
	}
	return ""
}

// Waiting has an end: an announcement at `--announce-max`, a drain at `--drain-max` where that is set, whatever is in flight, and the hold of a container that is restarted alone at `--restart-max`.
func waitingEnds(w *Watch, p *Pod, d *Decision) string {
	_, last, _ := p.budget()
	switch {
	case d.From != d.To, p.Log != nil: // in a log, a line that belongs to no decision may come before a late one
	case d.To == Announcing && w.now >= w.since+p.AnnounceMax:
		return fmt.Sprintf("still announcing after %v", w.now-w.since)
	case p.DrainMax > 0 && (d.To == Draining || d.To == Settling) && w.now >= w.began+p.DrainMax:
		return fmt.Sprintf("still waiting %v after draining began", w.now-w.began)
	case d.To == Holding && !p.Observe:
		for id := range w.hooks {
			if h := &w.hooks[id]; h.held && !d.Answered.Has(id) && w.now >= h.called+min(p.RestartMax, last) {
				return fmt.Sprintf("%s, which is restarted alone, is held for %v", p.name(id), w.now-h.called)
			}
		}
	}
	return ""
}

// A stage whose turn has come is let go within a second and a half: for so long, together, Envoy sends its last bytes and its owner takes over.
func turnsAreTaken(w *Watch, p *Pod, d *Decision) string {
	if p.Log != nil || p.Observe || d.From != Stopping || d.To != Stopping {
		return ""
	}
	for id := range w.hooks {
		h, turn := &w.hooks[id], w.turn[p.stage(id)]
		if h.held && !d.Answered.Has(id) && turn != 0 && w.now > max(turn, h.called)+1500*time.Millisecond {
			return fmt.Sprintf("the hook of %s is held %v after its turn", p.name(id), w.now-turn)
		}
	}
	return ""
}

// `--quiet-max`, counted from the end of `--propagation`, ends the wait for the silence of clients: with nothing in flight a drain goes on then.
func quietMaxEndsSilence(w *Watch, p *Pod, d *Decision) string {
	if p.Log == nil && d.From == Draining && d.To == Draining && w.now >= w.silenceEnd(p) && w.notZero(p, 0) == "" && !w.bytesMove(p) {
		return fmt.Sprintf("draining %v after T0 with nothing in flight", w.now-w.t0)
	}
	return ""
}

// Connections that nobody has used keep nobody waiting: with nothing in flight, no request ever and no new connection for `--quiet-min`, a drain goes on when `--propagation` is over.
func unusedHoldNobody(w *Watch, p *Pod, d *Decision) string {
	c := &w.opened.last
	quiet := c.fresh(w.now) && c.At >= max(w.t0+p.QuietMin, w.since) && w.rqs.last.At >= w.since && max(w.opened.grew, w.peers.grew) <= w.t0 && w.rqs.last.fresh(w.now) && !w.everAsked
	if p.Log == nil && d.From == Draining && d.To == Draining && w.now >= w.t0+p.Propagation && quiet && w.described && w.notZero(p, 0) == "" && w.bytesUnderWay(p, 0) == "" {
		return fmt.Sprintf("draining %v after T0 although nobody ever sent anything", w.now-w.t0)
	}
	return ""
}

// One stop signal changes nothing: until those of two containers came, our own SIGTERM counted, and until the announcement is over, Envoy and the app are left as they are. Where the only hook that there is was called, it is taken for a stop.
func oneSignalChangesNothing(w *Watch, p *Pod, d *Decision) string {
	does := d.Do &^ PassHealth
	if w.wanted != 0 || p.Log != nil && d.To == Maintenance {
		does &^= FailHealth
	}
	signals := w.signals(p) | w.leaving(p)
	switch {
	case does == 0, w.exitWithEnded(p):
		return ""
	case d.To < Draining:
		return fmt.Sprintf("did %b before draining began", does)
	case signals&(signals-1) == 0 && signals != p.Hooks:
		return fmt.Sprintf("did %b on the signals %b", does, signals)
	}
	return ""
}

// The restart of one container, or a stop that was none, leaves Envoy as it was: what was done to its health is undone as soon as Envoy takes it.
func restartLeavesNothing(w *Watch, p *Pod, d *Decision) string {
	failed := (w.done|w.asked)&FailHealth != 0
	trying := (w.asked|d.Do)&(PassHealth|FailHealth) != 0 || w.failed&PassHealth != 0 && w.now <= w.failedAt+600*time.Millisecond
	if p.Log == nil && !p.Observe && p.Admin && failed && d.To == Serving && w.wanted == 0 && !trying {
		return "Envoy's health stays failed"
	}
	return ""
}

// Who wants maintenance is a set: each of operator and drain file undoes its own wish and no other's, and maintenance lasts as long as somebody wants it.
func wishesAreKept(w *Watch, p *Pod, d *Decision) string {
	switch {
	case p.Log != nil:
	case d.To == Serving && d.From == Serving && w.wanted != 0:
		return "serving although somebody wants maintenance"
	case d.From == Maintenance && d.To == Maintenance && w.wanted == 0:
		return "in maintenance although nobody wants it"
	case d.Do&PassHealth != 0 && w.wanted != 0:
		return "health is restored although somebody wants maintenance"
	}
	return ""
}

// What cannot be undone needs what nobody can forge: Envoy's listeners are drained only after our own SIGTERM or a hook with the token, its owner is told only then or when a container that was called leaves.
func irreversibleNeedsProof(w *Watch, p *Pod, d *Decision) string {
	switch {
	case d.Do&DrainListeners != 0 && !w.sigterm && (!w.token || w.lone(p)):
		return "listeners are drained without SIGTERM or token"
	case d.Do&(HandOver|Quit) != 0 && !w.unforgeable(p) && !w.exitWithEnded(p):
		return fmt.Sprintf("did %b and nothing proves a pod stop", d.Do)
	}
	return ""
}

// Envoy is told to quit only at the end: when no hook is held any more and the stop is proved.
func quitAtTheEnd(w *Watch, _ *Pod, d *Decision) string {
	if d.Do&Quit != 0 && (d.To != Finished || w.held()&^d.Answered != 0) {
		return fmt.Sprintf("Envoy is told to quit in %d, hooks %b are held", d.To, w.held()&^d.Answered)
	}
	return ""
}

// Where Envoy's owner has a drain of its own, it is told before the proxy's hook is answered in its turn, or has failed or had half a second.
func ownerIsTold(w *Watch, p *Pod, d *Decision) string {
	_, last, scale := p.budget()
	id := p.proxy()
	if p.Log != nil || id < 0 || !d.Answered.Has(id) || d.From != Stopping && d.To != Stopping || !w.handover || !p.Admin || p.Observe || w.hooks[id].released {
		return ""
	}
	late := w.patience != 0 || w.now >= w.t0+last || w.gone(p, id)
	if !late && w.unforgeable(p) && (w.done|w.failed)&HandOver == 0 && (w.handAt == 0 || w.now < w.handAt+scaled(500*time.Millisecond, scale)) {
		return "the proxy's hook is answered and its owner does not know"
	}
	return ""
}

// A container that dies keeps nobody waiting: its own hook is answered at once, and when Envoy or all that did the work has ended, the drain goes on to let the others go; half a second later where Envoy has not been seen since, so that who died first is named.
func theDeadHoldNobody(w *Watch, p *Pod, d *Decision) string {
	if p.Observe || !d.From.terminating() || p.Log != nil {
		return ""
	}
	for id := range p.Containers {
		if w.ended(p, id) && w.hooks[id].held && !d.Answered.Has(id) {
			return fmt.Sprintf("%s has ended and its hook is held", p.name(id))
		}
	}
	waiting := d.From < Stopping && d.To < Stopping
	if waiting && (p.proxy() >= 0 && w.died(p, p.proxy()) || w.workDied(p) && !w.unseenSince(p)) {
		return fmt.Sprintf("still in %d", d.To)
	}
	return ""
}

// Every drain ends in one verdict: none ends without, the agent does not end before it is written, and no hook is held after the last. An agent that is started into a stop whose verdict was written is silent.
func oneVerdict(w *Watch, p *Pod, d *Decision) string {
	switch {
	case p.Log != nil: // the lines before the verdict tell less than the state
	case d.From.terminating() && !d.To.terminating() && d.Verdict == "":
		return "a drain ended without a verdict"
	case d.Exit && w.final == "" && d.Verdict == "" && !w.told:
		return "the agent ended without a verdict"
	case d.Verdict != "" && d.To == Finished && w.held()&^d.Answered != 0:
		return "the verdict is written and a hook is held"
	}
	return ""
}

// The verdict is written once the last action is done, a second later at most; before it the end of a worker that nobody sees is waited for, which kubelet tells by SIGTERM, for as long as the grace period and 5 s.
func verdictInTime(w *Watch, p *Pod, d *Decision) string {
	over := d.From == Finished && w.final == "" && d.Verdict == "" && d.To == Finished && w.proved != 0 && w.held()&^d.Answered == 0
	if p.Log == nil && over && !w.told && !w.sleeping(p, d) && !p.Observe && w.now > max(w.since, w.proved, w.workOver(p))+time.Second {
		return fmt.Sprintf("no verdict %v after all was over", w.now-max(w.since, w.proved, w.workOver(p)))
	}
	return ""
}

// The verdict is true, also of a stop that was begun anew because a hook was called again after its answer: `clean` says that the first container was let go at a settled zero and nobody had to be killed, as far as can be seen, and that kubelet told in time of the end of a worker that nobody sees, `deadline` that a time was over or that such an end was not told, `proxy_died` and `app_died` that this one ended, and ended first, before it was let go, `finished_by_operator` that one asked, `aborted` that nothing proved a stop, `container_restart` that no second container was told.
func verdictIsTrue(w *Watch, p *Pod, d *Decision) string {
	if i := slices.Index(worse[:], d.Verdict); !w.bears(p, d, d.Verdict) && (i < 0 || w.earlier>>i&1 == 0) {
		return fmt.Sprintf("%s: zero %v, SIGTERM %v, signals %b, still there %b", d.Verdict, w.zeroStop, w.sigterm, w.signals(p), w.late)
	}
	return ""
}

// The agent leaves the last word to kubelet: it ends at the SIGTERM that follows the answer of its own hook, or 5 s after all was decided, and no later.
func endsAfterKubelet(w *Watch, p *Pod, d *Decision) string {
	switch {
	case p.Log != nil:
	case d.Exit && !w.sigterm && w.t0 != 0 && w.now < w.since+p.AbortAfter:
		return "the agent ends in the moment in which kubelet stops it"
	case w.final != "" && !d.Exit && w.now >= w.finalAt+p.AbortAfter:
		return "the agent outlives its verdict"
	}
	return ""
}

// In observe mode nothing is done to anybody.
func observeDoesNothing(_ *Watch, p *Pod, d *Decision) string {
	if p.Observe && d.Do != 0 {
		return fmt.Sprintf("did %b", d.Do)
	}
	return ""
}

// Without access to Envoy's admin the agent works by timers: it tells Envoy nothing, and lets nobody go at a zero before `--propagation` and `--quiet-max` are over, unless it sees the arrivals itself.
func timersWithoutAdmin(w *Watch, p *Pod, d *Decision) string {
	switch {
	case p.Admin:
	case d.Do&^TellApp != 0:
		return fmt.Sprintf("did %b", d.Do)
	case d.To == Settling && w.looked() == 0 && w.now < w.silenceEnd(p) && p.Log == nil:
		return "zero is believed before quiet-max is over"
	}
	return ""
}
