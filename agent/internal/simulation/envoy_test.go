package simulation

import (
	"maps"
	"slices"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

const (
	hop       = 300 * time.Microsecond // between Envoy and the app
	roundTrip = time.Millisecond       // between a client and Envoy
	socketCap = 3_700_000              // bytes that stand in the kernel before Envoy's own buffer fills (measured)
)

// envoy is a model of the proxy: what it counts, how it tells clients to leave, how it ends.
type envoy struct {
	up        bool
	ended     time.Duration
	killedBy  string        // "kubelet" or a fault
	gone      chan struct{} // closed then
	conns     map[*conn]bool
	requests  int64 // counters
	accepted  int64
	active    map[*request]bool
	failed    bool // its health check
	draining  bool // listeners
	drainFrom time.Duration
	gradual   time.Duration // window of a gradual strategy; 0: immediate
}

func newEnvoy(gradual time.Duration) envoy {
	return envoy{up: true, gone: make(chan struct{}), conns: map[*conn]bool{}, active: map[*request]bool{}, gradual: gradual}
}

// conn is one connection of a client.
type conn struct {
	client *client
	opened time.Duration
	h2     bool
	told   bool // to leave: it takes no new request
	closed bool
	active int
	bare   bool // brings no request
}

// request is one request, from the client's first byte to the fate of the last byte of its answer.
type request struct {
	id       int
	client   *client
	conn     *conn
	sent     time.Duration
	fresh    bool // it came on a connection of its own
	work     time.Duration
	size     int64
	rate     float64 // bytes per second that the client takes; 0: at once
	stallsAt int64   // the client takes no byte after so many; 0: it takes all
	inApp    bool
	answered time.Duration // when Envoy had the whole answer
	over     bool
	lost     string
	lostAt   time.Duration
	cutBy    string // who ended the process that held it: "kubelet" or a fault
}

// left is how many bytes of the answer the client has not taken, and since when none was taken.
func (r *request) left(now time.Duration) (n int64, standing time.Duration) {
	if r.answered == 0 || r.rate == 0 {
		return 0, 0
	}
	taken := int64(r.rate * (now - r.answered).Seconds())
	if r.stallsAt > 0 && taken > r.stallsAt {
		since := time.Duration(float64(r.stallsAt)/r.rate*1e9) + r.answered
		return r.size - r.stallsAt, now - since
	}
	return max(0, r.size-taken), 0
}

// ordered returns the requests in the order in which they came: a map's own order would make two runs of one seed differ.
func ordered(set map[*request]bool) []*request {
	return slices.SortedFunc(maps.Keys(set), func(a, b *request) int { return a.id - b.id })
}

// tellsToLeave reports whether the response that begins now says so.
func (v *envoy) tellsToLeave(now time.Duration, chance dice) bool {
	switch {
	case v.failed:
		return true
	case v.draining && v.gradual == 0:
		return true
	case v.draining:
		return chance.chance(float64(now-v.drainFrom) / float64(v.gradual))
	}
	return false
}

// buffered is what stands in Envoy's own buffers, queued what moves in the kernel's, stalled what stands still there.
func (p *pod) bytes() (buffered, queued, stalled int64) {
	for r := range p.sending {
		n, standing := r.left(p.now)
		kernel := min(n, socketCap)
		buffered += n - kernel
		if standing >= drain.StallAfter {
			stalled += kernel
		} else {
			queued += kernel
		}
	}
	return buffered, queued, stalled
}

// enter is a request that reaches Envoy.
func (p *pod) enter(r *request) {
	v := &p.envoy
	v.requests++
	v.active[r] = true
	r.conn.active++
	p.lastRequest = p.now
	p.after(hop, func() { p.reachApp(r) })
}

func (p *pod) reachApp(r *request) {
	switch {
	case r.over:
	case !p.app.listens:
		p.lose(r, "503: no app behind Envoy", p.app.endedBy)
		p.respond(r)
	default:
		r.inApp = true
		p.app.active[r] = true
		p.after(r.work, func() { p.answer(r) })
	}
}

// answer is the app's, whole.
func (p *pod) answer(r *request) {
	if r.over || !r.inApp {
		return
	}
	r.inApp = false
	delete(p.app.active, r)
	p.app.maybeEnd(p)
	p.after(hop, func() {
		if !r.over {
			p.respond(r)
		}
	})
}

// respond is Envoy's response to the client.
func (p *pod) respond(r *request) {
	v, c := &p.envoy, r.conn
	delete(v.active, r)
	if v.tellsToLeave(p.now, p.chance) && (!c.h2 || !r.client.spec.Deaf) {
		c.told = true
	}
	if r.lost == "" && r.rate > 0 {
		r.answered = p.now
		p.sending[r] = true
		p.after(time.Duration(float64(r.size)/r.rate*1e9)+time.Millisecond, func() {
			if n, _ := r.left(p.now); n == 0 && !r.over {
				p.delivered(r)
			}
		})
		return
	}
	p.delivered(r)
}

func (p *pod) delivered(r *request) {
	r.over = true
	delete(p.sending, r)
	c := r.conn
	if c.active--; c.active == 0 && (c.told || r.client.spec.Kind == fresh) {
		p.hangUp(c)
	}
}

func (p *pod) hangUp(c *conn) {
	c.closed = true
	delete(p.envoy.conns, c)
}

// lose notes the fate of a request.
func (p *pod) lose(r *request, why, by string) {
	if r.lost == "" {
		r.lost, r.lostAt, r.cutBy = why, p.now, by
		p.lost = append(p.lost, r)
	}
}

// endEnvoy ends the process: what it holds is cut. What the kernel has of an answer is still sent as long as the pod has a network.
func (p *pod) endEnvoy(by string) {
	v := &p.envoy
	if !v.up {
		return
	}
	v.up, v.ended, v.killedBy = false, p.now, by
	close(v.gone)
	for _, r := range ordered(v.active) {
		p.lose(r, "cut in Envoy", by)
		r.over = true
		delete(p.app.active, r)
	}
	clear(v.active)
	for _, r := range ordered(p.sending) {
		if n, _ := r.left(p.now); n > socketCap {
			p.lose(r, "bytes cut in Envoy's buffer", by)
			r.over = true
			delete(p.sending, r)
		}
	}
	for c := range v.conns {
		c.closed = true
	}
	clear(v.conns)
	p.app.maybeEnd(p)
	p.note("envoy ends: " + by)
}

// endNetwork is the end of the pod: what is still in the kernel goes with it.
func (p *pod) endNetwork() {
	for _, r := range ordered(p.sending) {
		if n, _ := r.left(p.now); n > 0 {
			p.lose(r, "bytes cut in the kernel", "kubelet")
		}
	}
	clear(p.sending)
}
