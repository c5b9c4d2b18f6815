package envoy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// Sample is one reading of the ladder. A Count that is not Known could not be read: hidden, demoted or failed.
type Sample struct {
	InFlight drain.Count      // requests and proxied TCP connections inside Envoy that came from peers
	Classes  map[string]int64 // the part of InFlight whose class can be told: "requests", "websocket", "upgrade", "tcp", "tls"; zeros are left out
	Bytes    drain.Count      // what Envoy has still to hand to its clients' sockets, as old as InFlight; unknown where HTTP/2 may be spoken and nothing shows it
	Conns    drain.Count      // open connections from peers
	NewConns drain.Count      // connections from peers so far; never decreases
	Requests drain.Count      // requests from peers so far; never decreases. Where http statistics are hidden, what reached the app
	Errors   drain.Count      // requests that failed behind Envoy so far, of any protocol: 5xx and its gRPC twins, resets, connections that were refused, each try for itself; never decreases

	Rung    string   // where InFlight came from: "clusters+http", "clusters", "http", "listener_cx", "total_connections"; "" when unknown
	Demoted []string // rungs given up, each with the reason
	Notes   []string // what of the traffic cannot be counted, what of the configuration could not be read; each with what to do
	Changed bool     // Envoy's listeners or clusters changed since the last Describe or Sample: ports may have changed too, call Describe

	StatsAge    time.Duration // how old Conns, NewConns and Classes' upgrades are; 0 when they were read just now
	RequestsAge time.Duration // how old Requests is: StatsAge, but 0 where the hosts count them
	Age         time.Duration // how old InFlight is: StatsAge where the hosts have nothing and the statistics had to say so, else 0
	StatsEvery  time.Duration // the statistics are read again after this long at the latest; 0 when they are read each time

	Took    time.Duration // how long Envoy was waited for, all calls of this sample together
	Spared  time.Duration // the part of Took that rare readings pay for; wait 20 times as long as the rest before the next
	Behind  bool          // what was spared is not paid for yet: wait up to three times as long where no end hangs on the next reading
	Failure Failure       // why InFlight is unknown, "" when it is known or when nothing failed
	Err     error         // with Failure
}

// Sample reads the ladder once. It looks at the configuration again when that changed, or may have.
func (c *Client) Sample(ctx context.Context) Sample { return c.Prove(ctx, time.Time{}) }

// Prove is the Sample that something waits for: a zero is to be of that time or later. What is expensive is then read ahead of its
// price, once, and counted against the readings after it.
func (c *Client) Prove(ctx context.Context, since time.Time) Sample {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &reading{c: c, ctx: ctx, now: time.Now(), since: since}
	c.renew(r.now)
	err := r.refresh()
	if !silent(err) {
		err = r.climb()
	}
	if err != nil && !r.out.InFlight.Known {
		r.out.Err, r.out.Failure = err, FailureOf(err)
		c.lookNow = c.lookNow || r.out.Failure == Refused // another Envoy may answer next
	}
	r.out.Demoted = c.price.demoted()
	r.out.Notes = append(r.out.Notes, c.view.missing...)
	c.sampled = r.now
	c.account.spent(c.frequent, r.out.Took)
	r.out.Behind = c.account.behind(r.now, r.out.Took-r.out.Spared)
	return r.out
}

// reading is one Sample in the making.
type reading struct {
	c   *Client
	ctx context.Context //nolint:containedctx // lives for one Sample
	now time.Time
	out Sample

	narrow   bool // hosts are those of clusters that were known before
	repeated bool // hosts are as the last whole answer had them
	wholeAt  time.Time
	forced   bool      // read also what is too dear
	since    time.Time // somebody waits for a zero of this time or later; zero: nobody does
}

// refresh makes the view fit the configuration that Envoy has now. A look that takes long goes on while readings are taken by the view before it.
func (r *reading) refresh() error {
	c := r.c
	if c.look == nil && c.lookDue(r.now) {
		c.beginLook(r.now)
		c.lookNow = false
	}
	patience := lookPatience
	if c.view.Version != "" {
		patience = 1 // the rule is good for a while without it
	}
	if c.look == nil || !c.look.wait(r.ctx, patience) {
		return nil
	}
	r.out.Took, r.out.Spared = r.out.Took+c.look.took, r.out.Spared+c.look.took // lookDue spaces it
	err := c.endLook()
	r.out.Changed, c.news = c.news, false
	return err
}

// lookDue reports whether the configuration is to be read now: when it never was, when it changed, when readings become frequent (a drain
// begins), and every few seconds while they are, since not every change is counted.
func (c *Client) lookDue(now time.Time) bool {
	v := c.view
	age, frequent := now.Sub(v.at), now.Sub(c.sampled) < lookPace
	if !frequent {
		c.frequent = now
	}
	switch {
	case age < max(lookPace, share20*v.took):
		return c.lookNow && v.took < tooDear
	case v.Version == "", c.lookNow, c.moved != v.moved, frequent && v.at.Before(c.frequent):
		return true
	default:
		return age >= max(lookEvery, 5*share20*v.took)
	}
}

// climb reads the rungs from the best to the last. Its error says why they gave nothing.
func (r *reading) climb() error {
	err := r.rungs()
	if !r.out.InFlight.Known && !silent(err) && r.c.price.stats.dear > 1 && r.c.elder == "" {
		r.forced = true // slowly is better than never
		err = r.rungs()
	}
	if !r.out.InFlight.Known && !silent(err) && r.c.elder == "" && len(r.c.view.uncounted) == 0 && !r.c.whole.ever {
		err = errors.Join(err, r.flushed())
	}
	return err
}

// rungs reads what is allowed and cheap enough, or, forced, what is allowed and has not been read yet.
func (r *reading) rungs() error {
	hosts, err := r.hosts()
	if silent(err) {
		return err
	}
	errStats := r.stats(hosts)
	proved := r.narrow && r.c.whole.stands(r.c.moved)
	if !r.since.IsZero() && (r.repeated || hosts == drain.Known(0) && !proved) {
		hosts, err = r.anew(hosts)
	}
	return errors.Join(err, errStats, r.decide(hosts))
}

// silent reports whether Envoy did not answer at all, so that asking for the next rung only loses time.
func silent(err error) bool {
	kind := FailureOf(err)
	return kind == Refused || kind == Timeout
}

// decide takes the best that was read for what is in flight. Its error says why that is unknown although something was read.
func (r *reading) decide(hosts drain.Count) error {
	out, t, v := &r.out, &r.c.total, r.c.view
	apart := int64(0) // TCP, which the http gauges do not see
	for _, n := range out.Classes {
		apart += n
	}
	switch {
	case hosts == drain.Known(0) && t.unanswered == drain.Known(0) && t.bytes.N > 0:
		out.InFlight, out.Rung = hosts, "clusters+http" // what http counts was answered in full: the bytes say whether its client takes them
	case hosts.Known && t.http.Known && (hosts.N == 0 || out.StatsAge == 0):
		out.InFlight, out.Rung = drain.Known(apart+max(hosts.N-apart, t.http.N)), "clusters+http"
	case hosts.Known:
		out.InFlight, out.Rung = hosts, "clusters"
	case t.http.Known && !v.blind:
		out.InFlight, out.Rung = t.http, "http"
	case t.conns.Known && !r.c.whole.ever: // requests are never exchanged for connections
		out.InFlight, out.Rung = t.conns, "listener_cx"
		return r.cover(apart, false)
	default:
		return nil
	}
	return r.cover(apart, true)
}

// cover adds what is counted by itself, and takes a zero back that does not stand for everything.
func (r *reading) cover(apart int64, split bool) error {
	out, t, v := &r.out, &r.c.total, r.c.view
	out.Bytes = t.bytes
	if split {
		r.split(out.InFlight.N - apart)
		out.InFlight.N += t.apart.N
	}
	if out.InFlight.N == 0 {
		out.Age = max(r.hostsAge(), out.StatsAge)
		if r.hostsAge() > 0 {
			out.StatsEvery = max(out.StatsEvery, share20*r.c.whole.took)
		}
	}
	if out.StatsAge == 0 {
		r.c.lost.end(t.conns, v)
	}
	var why error
	switch {
	case r.c.elder != "":
		why = errors.New(r.c.elder)
	case out.InFlight.N > 0:
		return nil
	case len(v.apart) > 0 && !t.apart.Known:
		why = errors.New("the statistics that count a part of the inbound traffic were not read")
	case len(v.unlisted) > 0 && !t.http.Known:
		why = fmt.Errorf("the statistics that alone count a part of the inbound traffic were not read: %s", v.unlisted[0])
	case len(v.uncounted) > 0:
		why = fmt.Errorf("a part of the inbound traffic is not counted: %s", v.uncounted[0])
		out.Notes = append(out.Notes, v.uncounted...)
	case r.narrow && r.c.moved.known && r.c.whole.moved.known && r.c.moved != r.c.whole.moved:
		why = errors.New("clusters or listeners changed just now")
	case split && (!t.http.Known || v.blind):
		if why = r.c.lost.holds(r.now); why == nil {
			return nil
		}
		out.Notes = append(out.Notes, why.Error())
	default:
		return nil
	}
	out.InFlight, out.Rung, out.Age = drain.Count{}, "", 0
	return why
}

// get reads one rung and books its price.
func (r *reading) get(p *price, path string, read func(io.Reader) error) error {
	took, err := r.c.get(r.ctx, path, read)
	r.out.Took += took
	p.book(r.now, took, err)
	return err
}

// stats reads what is visible of the statistics, or repeats what they said while reading them again is not paid for, and while Envoy makes
// a whole answer: it answers one question after the other. It reads each time when the hosts say nothing.
func (r *reading) stats(hosts drain.Count) error {
	t, out := &r.c.total, &r.out
	a, busy := &t.allowance, hosts.N > 0 || len(r.c.view.stats) == 0 && r.since.IsZero()
	var err error
	if hosts.Known && (r.c.whole.reader != nil || !a.due(r.now, busy)) {
		out.StatsAge, out.StatsEvery = r.now.Sub(a.at), max(out.StatsEvery, a.every(busy))
		if t.newRequests.Known {
			out.RequestsAge = out.StatsAge
		}
	} else {
		before, forced := out.Took, r.forced
		r.forced = forced || hosts.Known // the allowance alone spaces them then
		err = r.gather()
		r.forced = forced
		if took := out.Took - before; hosts.Known && t.read {
			a.spent(r.now, took)
			out.StatsEvery, out.Spared = max(out.StatsEvery, a.every(busy)), out.Spared+took
		}
	}
	out.Conns, out.NewConns, out.Requests = t.conns, t.newConns, either(t.newRequests, out.Requests)
	return err
}

// gather leaves in the totals what can be read of the statistics.
func (r *reading) gather() error {
	c, v, t := r.c, r.c.view, &r.c.total
	t.forget()
	values, err := r.read(&c.price.stats, append(append(make([]string, 0, len(v.stats)+len(always)), v.stats...), always...))
	if t.read = values != nil; !t.read {
		c.moved.known = false // and so is every zero that rests on them standing still
		return err
	}
	t.http, t.conns, t.upgrades, t.apart = sum(values, v.http), sum(values, v.conns), sum(values, v.upgrades), sum(values, v.apart)
	t.newConns, t.newRequests = t.opened.count(sum(values, v.opened)), t.requests.count(sum(values, v.requests))
	t.bytes = v.bytes(values, t.http)
	t.unanswered = t.silent.unanswered(v.answered, sum(values, v.requests), sum(values, v.answered), t.http)
	c.identify(r.now, values)
	return err
}

func either(a, b drain.Count) drain.Count {
	if a.Known {
		return a
	}
	return b
}

// read asks for statistics; nil means that they were not read.
func (r *reading) read(p *price, names []string) (map[string]int64, error) {
	if !p.readable(r.now, r.forced) {
		return nil, p.err
	}
	var values map[string]int64
	err := r.get(p, statsPath(true, names), func(body io.Reader) (err error) {
		values, err = readStats(body, names)
		return err
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}

// sum adds up visible statistics; without a name there is nothing to know.
func sum(values map[string]int64, names []string) drain.Count {
	if len(names) == 0 {
		return drain.Count{}
	}
	total := int64(0)
	for _, name := range names {
		total += values[name]
	}
	return drain.Known(total)
}
