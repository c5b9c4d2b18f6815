package simulation

import (
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// judgeRelease asks of an answer that nothing forced: was everything waited for that is promised? It looks at the models, never at
// what the agent believed.
func (p *pod) judgeRelease(say sayer) {
	r, looks := p.atRelease, p.atRelease.looks
	held := r.at - p.t0
	if held < p.sc.Propagation {
		say("the first hook was answered after %v, before --propagation=%v was over", held, p.sc.Propagation)
	}
	for _, source := range []string{"proxy", "app"} {
		if old := r.at - looks[source]; old > p.staleAfter() {
			say("the first hook was answered although %s had not been read for %v: unknown is not zero", source, old)
		}
	}
	if r.moving > 0 && !p.has("sockets hidden", "admin hangs") {
		say("the first hook was answered while %d bytes were on their way to clients", r.moving)
	}
	for _, one := range r.active {
		if one.sent < looks["proxy"]-hop && one.sent < looks["app"]-2*hop {
			say("the first hook was answered while a request of client %q, sent %v before, was in flight", one.client.spec.Kind, r.at-one.sent)
		}
	}
	if quietEnd := p.sc.Propagation + p.sc.QuietMax; held < quietEnd-slack {
		p.judgeSilence(say)
	}
}

// staleAfter is how old a reading may be: three periods, and who answers slowly is asked every twenty times its latency.
func (p *pod) staleAfter() time.Duration {
	slowest := 2 * ms
	for _, f := range p.sc.Faults {
		if f.Kind == "admin slow" || f.Kind == "app slow" {
			slowest = max(slowest, f.Takes)
		}
	}
	return max(600*ms, 62*slowest)
}

// judgeSilence: who may come back is waited for, up to --quiet-max.
func (p *pod) judgeSilence(say sayer) {
	r := p.atRelease
	if at := r.seen.connsAt; at > 0 && r.seen.conn > p.t0 && at-r.seen.conn < 500*ms && r.looks["conns"] == at {
		say("the first hook was answered although a connection had come %v before the last look", at-r.seen.conn)
	}
	if r.looks["requests"] == 0 || p.idleRate == 0 || p.connsAtT0 == 0 {
		return
	}
	conns := min(r.conns, r.seen.conns) // who came after the newest look is a newcomer
	rate := p.idleRate * float64(conns) / float64(p.connsAtT0+r.seen.opened)
	if silence := (r.seen.requestsAt - r.seen.request).Seconds(); silence*rate > 1 {
		rate = 1 / silence
	}
	if score := rate * 0.2; score > 2*0.02 {
		say("the first hook was answered at a stopping score of %.3f, with %d connections open", score, conns)
	}
}

// unexcused says why a lost request is a failure; "" when README's limits cover it.
func (p *pod) unexcused(r *request) string {
	rel := p.atRelease
	switch {
	case r.cutBy == "fault":
		return ""
	case r.cutBy == "restart":
		return "" // of the app alone: what it must not cost is judged when its hook is answered
	case p.excuse() != "":
		return "" // what the grace period leaves no time for is cut; the verdict names it
	case rel.at == 0:
		return "no hook had been answered"
	case r.answered > 0:
		return p.unexcusedBytes(r)
	case r.sent < min(rel.looks["proxy"], rel.looks["app"])-2*hop:
		return "it was in flight when the first hook was answered"
	case r.fresh && r.sent < p.deletedAt+p.sc.Propagation:
		return "it came on a new connection before --propagation was over"
	}
	return "" // a silent client came back, or the balancer was late
}

func (p *pod) unexcusedBytes(r *request) string {
	rel := p.atRelease
	_, standing := r.left(rel.at)
	switch {
	case r.stallsAt > 0 && standing >= drain.StallAfter-time.Second:
		return "" // it stands still: named, and not waited for
	case r.sent >= min(rel.looks["proxy"], rel.looks["app"])-2*hop:
		return "" // it came after the last look
	case p.has("sockets hidden"):
		return "" // what cannot be counted is waited for up to --quiet-max
	case r.stallsAt > 0 && r.lost == "bytes cut in the kernel" && rel.at-r.answered > drain.StallAfter:
		return ""
	}
	return "bytes of its answer were under way when the first hook was answered"
}
