package simulation

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/promises/fromlog"
)

// hookAnswered notes the answer of one of kubelet's hooks, and the truth at the first.
func (p *pod) hookAnswered(name string) {
	p.note("hook of " + name + " is answered")
	p.answered[name] = p.now
	p.callAgain(name)
	if name != p.first() {
		return
	}
	buffered, queued, _ := p.bytes()
	var moving int64
	for r := range p.sending {
		if n, standing := r.left(p.now); standing < drain.StallAfter-sec && r.answered < min(p.looks["sockets"], p.looks["buffered"]) {
			moving += n
		}
	}
	p.atRelease = release{
		moving: moving,
		at:     p.now, active: ordered(p.envoy.active), buffered: buffered, queued: queued, conns: len(p.envoy.conns),
		lastRequest: p.lastRequest, lastConn: p.lastConn, looks: maps.Clone(p.looks), seen: p.seen,
	}
}

func (p *pod) first() string {
	if p.sc.ProxyFirst {
		return "proxy"
	}
	return "app"
}

func (p *pod) second() string {
	if p.sc.ProxyFirst {
		return "app"
	}
	return "proxy"
}

// budget is README's and the reference page's arithmetic, written down once more: the core's own is what is judged.
type budget struct {
	stop, hard time.Duration // after T0: the first hook's answer and the last one's, at the latest
	scale      float64
	share      map[string]time.Duration
}

func (p *pod) budget() budget {
	app, proxy, margin := 5*sec, 2*sec, 2*sec
	floor := time.Second + p.sc.Propagation + 200*ms + app + proxy + margin
	scale := min(1, float64(p.sc.Grace)/float64(floor))
	scaled := func(d time.Duration) time.Duration { return time.Duration(float64(d) * scale) }
	b := budget{scale: scale, hard: p.sc.Grace - scaled(margin), share: map[string]time.Duration{"app": scaled(app), "proxy": scaled(proxy)}}
	b.stop = b.hard - scaled(app+proxy)
	return b
}

// excuse says what allowed the first hook to be answered before everything was waited for; "" when nothing did.
func (p *pod) excuse() string {
	r := p.atRelease.at
	died := func(up bool, at time.Duration, by string) bool { return !up && by == "fault" && at <= r }
	switch {
	case p.hardAt > 0 && r >= p.hardAt:
		return "grace"
	case r >= p.t0+p.budget().stop:
		return "budget"
	case died(p.app.up, p.app.ended, p.app.endedBy), died(p.envoy.up, p.envoy.ended, p.envoy.killedBy):
		return "death"
	case p.finishedAt > 0 && r >= p.finishedAt:
		return "operator"
	}
	return ""
}

const slack = 20 * ms // of the models' own clocks

// judge returns every promise that this run broke.
func (p *pod) judge() []string {
	broken := slices.Clone(p.broken)
	say := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	for _, why := range fromlog.Broken(p.logged(), p.log.String()) {
		say("from the log: %s", why)
	}
	if p.sc.Job {
		p.judgeJob(say)
		return broken
	}
	p.judgeHooks(say)
	p.judgeVerdict(say)
	if p.sc.Observe {
		return broken
	}
	p.judgeOrder(say)
	p.judgeDeaths(say)
	if p.excuse() == "" && p.atRelease.at > 0 {
		p.judgeRelease(say)
	}
	p.judgeSpeed(say)
	for _, r := range p.lost {
		if why := p.unexcused(r); why != "" {
			say("a request of client %q sent at %.3fs was lost at %.3fs (%s): %s", r.client.spec.Kind, r.sent.Seconds(), r.lostAt.Seconds(), r.lost, why)
		}
	}
	return broken
}

type sayer func(format string, args ...any)

// judgeHooks: every hook is answered before its deadline, also when the grace period is shorter than it was told.
func (p *pod) judgeHooks(say sayer) {
	for _, name := range []string{"app", "proxy", "agent"} {
		if name == "agent" && p.sc.Shape == hookless {
			continue
		}
		at, answered := p.answered[name]
		latest := p.t0 + p.budget().hard
		if p.hardAt > 0 && p.signal > 0 {
			latest = max(p.signal, min(latest, p.signal+time.Second))
		}
		switch {
		case !answered:
			say("the hook of %s was never answered", name)
		case at > latest+slack:
			say("the hook of %s was answered %v after its deadline", name, at-latest)
		}
	}
	if p.killed {
		say("the agent was still there when kubelet killed it")
	}
}

// judgeVerdict: every drain ends in one verdict line, and it is true.
func (p *pod) judgeVerdict(say sayer) {
	ours := p.verdicts[min(p.earlier, len(p.verdicts)):]
	if p.finishedFirst() && len(ours) == 2 && ours[0].Outcome == "finished_by_operator" {
		ours = ours[1:]
	}
	for p.has("called again") && !p.sc.Token && len(ours) > 1 && (ours[0].Outcome == "aborted" || ours[0].Outcome == "container_restart") {
		ours = ours[1:] // nothing proved the stop yet: a new fact, or one container's, by what can be known
	}
	if len(ours) != 1 {
		say("%d verdicts, want one", len(ours))
		return
	}
	v, excuse := ours[0], p.excuse()
	if p.sc.Observe {
		return
	}
	var cut int64
	for _, n := range v.Cut {
		cut += n
	}
	waited := len(p.atRelease.active) > 0 || p.atRelease.buffered+p.atRelease.queued > 0
	switch {
	case v.Outcome == "app_died" && p.app.endedBy != "fault", v.Outcome == "proxy_died" && p.envoy.killedBy != "fault":
		say("the verdict is %s although it was not that one that died (%s)", v.Outcome, v.Reason)
	case v.Outcome == "clean" && p.diedUnseen() != "":
		say("the verdict is clean although %s had died", p.diedUnseen())
	case excuse == "operator" && !p.finishedFirst() && v.Outcome == "clean" && (waited || p.atRelease.at < p.t0+p.sc.Propagation):
		say("the verdict is clean although an operator ended the wait")
	case (excuse == "budget" || excuse == "grace") && waited && v.Outcome == "clean":
		say("the verdict is clean although time was up and %d requests were in flight", len(p.atRelease.active))
	case (excuse == "budget" || excuse == "grace") && v.Outcome == "deadline" && p.cutForSure() && p.readIn(v) && cut == 0:
		say("the verdict says that nothing was cut although requests were")
	case v.Outcome == "deadline" && p.hardAt > 0 && p.hardAt <= p.answered["agent"]:
		// the grace period was over before the last hook was answered, which is what it says
	case excuse == "" && v.Outcome != "clean" && p.app.manner != stubborn && len(p.sc.Faults) == 0 && p.app.ended-p.app.exitsAfter < p.answered["app"]+p.budget().share["app"]-time.Second:
		say("the verdict is %s (%s), want clean", v.Outcome, v.Reason)
	}
}

// diedUnseen names a container that had died long enough before the first hook's answer to be seen. An app that was told to drain may
// have closed its port for that, and an admin that hangs shows nothing.
func (p *pod) diedUnseen() string {
	latest := p.atRelease.at - 400*ms
	if at := p.diedOf(p.app.endedBy, p.app.ended); at > 0 && at < latest && !p.sc.AppDrain {
		return "the app"
	}
	if at := p.diedOf(p.envoy.killedBy, p.envoy.ended); at > 0 && at < latest && !p.has("admin hangs", "admin slow") {
		return "the proxy"
	}
	return ""
}

// finishedFirst reports whether an operator said finish while one container alone was known to be stopped: that was let go, with a
// verdict of its own, and the next fact began anew.
func (p *pod) finishedFirst() bool {
	return p.finishedAt > 0 && (p.sureAt == 0 || p.finishedAt < p.sureAt)
}

// readIn reports whether anything was read between the beginning of a verdict's stop and its end.
func (p *pod) readIn(v *timeline.Verdict) bool {
	begun := v.Time.Sub(p.began) - time.Duration(v.TotalMS)*ms
	return max(p.looks["proxy"], p.looks["app"]) >= begun
}

// cutForSure reports whether a request was cut that had been in flight for long, and could be read.
func (p *pod) cutForSure() bool {
	if p.has("admin hangs", "requests hidden", "app hangs", "admin slow", "app slow", "configuration pushed") {
		return false
	}
	return slices.ContainsFunc(p.lost, func(r *request) bool {
		return r.cutBy == "kubelet" && (r.lost == "cut in the app" || r.lost == "cut in Envoy") && r.sent < p.atRelease.at-time.Second
	})
}

// judgeOrder: the next hook is answered when the container before it is gone, or has used up its share.
func (p *pod) judgeOrder(say sayer) {
	first, second := p.first(), p.second()
	a, b := p.answered[first], p.answered[second]
	ended := map[string]time.Duration{"app": p.app.ended, "proxy": p.envoy.ended}
	up := map[string]bool{"app": p.app.up, "proxy": p.envoy.up}
	budget := p.budget()
	excused := p.hardAt > 0 && b >= p.hardAt || b >= p.t0+budget.hard-slack || !up[second] && ended[second] <= b || p.sc.Shape == outlives && first == "proxy"
	leaves := first == "app" && p.app.told && !p.app.listens && len(p.app.active) == 0
	share := budget.share[first]
	if first == "proxy" { // its owner is told first, in its share
		share -= min(500*ms, max(0, a-p.stoppingAt))
	}
	if !excused && !leaves && b < min(ended[first], a+share-slack) {
		say("the hook of %s was answered %v after that of %s, which ended %v after its own", second, b-a, first, ended[first]-a)
	}
	if at := p.answered["agent"]; at > 0 && !p.severed["agent"] && at < max(a, b)-slack && !p.finishedFirst() {
		say("the agent's own hook was answered before another one")
	}
}

// judgeDeaths: a container that dies keeps nobody waiting.
func (p *pod) judgeDeaths(say sayer) {
	if p.sc.AppDrain || p.has("admin hangs", "admin slow", "operator finishes") {
		return // a closed port proves nothing where the app was told to drain; who hangs cannot be seen to die
	}
	within := time.Second + slack
	if p.sc.Handover {
		within += 500 * ms
	}
	for _, c := range p.sc.Clients {
		if c.Kind == slow {
			within += time.Second // for the last bytes of what the app had answered
			break
		}
	}
	for name, died := range map[string]time.Duration{"app": p.diedOf(p.app.endedBy, p.app.ended), "proxy": p.diedOf(p.envoy.killedBy, p.envoy.ended)} {
		other := map[string]string{"app": "proxy", "proxy": "app"}[name]
		if died > p.t0+p.sc.HooksLate+100*ms && p.answered[other] > died+within && p.answered[name] > died+slack {
			say("%s died at %.3fs, the hook of %s was answered %v later", name, died.Seconds(), other, p.answered[other]-died)
		}
	}
}

func (p *pod) diedOf(by string, at time.Duration) time.Duration {
	if by != "fault" {
		return 0
	}
	return at
}

// judgeSpeed: nobody who is idle, or unlikely to come back, keeps a pod waiting.
func (p *pod) judgeSpeed(say sayer) {
	if len(p.sc.Faults) > 0 || p.excuse() == "grace" || p.sc.Before != "" {
		return
	}
	within := max(p.sc.Propagation, p.sc.HooksLate) + 700*ms
	for _, c := range p.sc.Clients {
		switch {
		case c.Kind == check:
			within += 250 * ms // half of --quiet-min: its request may be on its way
		case c.Kind != "" && c.Kind != knock && (c.Kind != pooled || c.Every > 0):
			return
		}
	}
	if held := p.atRelease.at - p.t0; held > within {
		say("a pod without requests held its first hook for %v", held)
	}
}
