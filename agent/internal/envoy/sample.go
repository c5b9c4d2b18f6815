package envoy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// Sample is one reading of the ladder. A Count that is not Known could not be read: hidden, demoted or failed.
type Sample struct {
	InFlight drain.Count      // requests and proxied TCP connections inside Envoy that came from peers
	Classes  map[string]int64 // the part of InFlight whose class can be told: "requests", "websocket", "upgrade", "tcp", "tls"; zeros are left out
	Conns    drain.Count      // open connections from peers
	NewConns drain.Count      // connections from peers so far; never decreases
	Requests drain.Count      // requests from peers so far; never decreases. Where http statistics are hidden, what reached the app
	Errors   drain.Count      // requests that failed behind Envoy so far, of any protocol: 5xx and its gRPC twins, resets, connections that were refused, each try for itself; never decreases

	Rung    string   // where InFlight came from: "clusters+http", "clusters", "http", "listener_cx", "total_connections"; "" when unknown
	Demoted []string // rungs given up, each with the reason
	Changed bool     // Envoy's listeners or clusters changed since the last Describe or Sample: ports may have changed too, call Describe

	StatsAge    time.Duration // how old Conns, NewConns and Classes' upgrades are; 0 when they were read just now
	RequestsAge time.Duration // how old Requests is: StatsAge, but 0 where the hosts count them
	Age         time.Duration // how old InFlight is: StatsAge where the hosts have nothing and the statistics had to say so, else 0
	StatsEvery  time.Duration // the statistics are read again after this long at the latest; 0 when they are read each time

	Took    time.Duration // from asking to the end of the answer, all calls of this sample together
	Spared  time.Duration // the part of Took that rare readings pay for; wait 20 times as long as the rest before the next
	Failure Failure       // why InFlight is unknown, "" when it is known or when nothing failed
	Err     error         // with Failure
}

// Sample reads the ladder once. It calls Describe's part first when that has not been done, or when Envoy's listeners changed.
func (c *Client) Sample(ctx context.Context) Sample {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &reading{c: c, ctx: ctx, now: time.Now()}
	err := r.refresh()
	if err == nil {
		err = r.climb()
	}
	if err != nil && !r.out.InFlight.Known {
		r.out.Err, r.out.Failure = err, FailureOf(err)
		c.stale = c.stale || r.out.Failure == Refused // another Envoy may answer next
	}
	r.out.Demoted = c.price.demoted()
	return r.out
}

// reading is one Sample in the making.
type reading struct {
	c   *Client
	ctx context.Context //nolint:containedctx // lives for one Sample
	now time.Time
	out Sample

	forced bool // read also what is too dear
}

// refresh makes the view fit the configuration that Envoy has now.
func (r *reading) refresh() error {
	c := r.c
	if c.view != nil && !c.stale && r.now.Sub(c.looks.at) >= lookPace {
		sum, err := c.readActive(r.ctx, &r.out.Took, func(*adminv3.ListenerStatus) {})
		if err != nil && allowed(err) != nil {
			return err
		}
		c.stale = sum != c.looks.sum
		c.looks.at = r.now
	}
	if c.view != nil && !c.stale {
		return nil
	}
	first := c.view == nil
	_, took, err := c.describe(r.ctx)
	r.out.Took += took
	r.out.Changed = !first && err == nil
	return err
}

// climb reads the rungs from the best to the last. Its error says why they gave nothing.
func (r *reading) climb() error {
	err := r.rungs()
	if p := &r.c.price; !r.out.InFlight.Known && !silent(err) && (p.clusters.dear > 1 || p.gauges.dear > 1) {
		r.forced = true // slowly is better than never
		err = r.rungs()
	}
	if !r.out.InFlight.Known && !silent(err) {
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
	http, conns, errStats := r.stats(hosts)
	r.decide(hosts, http, conns)
	return errors.Join(err, errStats)
}

// silent reports whether Envoy did not answer at all, so that asking for the next rung only loses time.
func silent(err error) bool {
	kind := FailureOf(err)
	return kind == Refused || kind == Timeout
}

func (r *reading) decide(hosts, http, conns drain.Count) {
	out := &r.out
	apart := int64(0) // TCP, which the http gauges do not see
	for _, n := range out.Classes {
		apart += n
	}
	switch {
	case hosts.Known && http.Known && (hosts.N == 0 || out.StatsAge == 0):
		out.InFlight, out.Rung, out.Age = drain.Known(apart+max(hosts.N-apart, http.N)), "clusters+http", out.StatsAge
	case hosts.Known:
		out.InFlight, out.Rung = hosts, "clusters"
	case http.Known && !r.c.view.blind:
		out.InFlight, out.Rung = http, "http"
	case conns.Known:
		out.InFlight, out.Rung = conns, "listener_cx"
		return
	default:
		return
	}
	r.split(out.InFlight.N - apart)
}

// hosts reads the first rung.
func (r *reading) hosts() (drain.Count, error) {
	c, v := r.c, r.c.view
	if len(v.clusters) == 0 && !v.guessed { // inbound listeners, if any, lead nowhere
		return drain.Known(0), nil
	}
	if !c.price.clusters.readable(r.now, r.forced) {
		return drain.Count{}, c.price.clusters.err
	}
	sums := hostSums{classes: v.classes, apart: map[string]int64{}}
	missing, seen := 0, 0
	for _, there := range v.clusters {
		if there {
			missing++
		}
	}
	err := r.get(&c.price.clusters, v.clustersPath, func(body io.Reader) error {
		return readClusters(body, func(head clusterHead) bool {
			there, wanted := v.clusters[head.name]
			if there {
				missing--
			}
			if wanted {
				seen++
			}
			return wanted
		}, sums.add)
	})
	if err != nil {
		return drain.Count{}, err
	}
	if missing != 0 {
		c.stale = true
		return drain.Count{}, fmt.Errorf("read clusters: %d inbound clusters are missing", missing)
	}
	if seen == 0 {
		return drain.Count{}, errors.New("read clusters: none of them is inbound")
	}
	if v.requests == nil {
		r.out.Requests = c.total.hosts.add(sums.total)
	}
	r.out.Errors = c.total.errors.add(sums.errors)
	r.out.Classes = sums.apart
	return drain.Known(sums.active), nil
}

// get reads one rung and books its price.
func (r *reading) get(p *price, path string, read func(io.Reader) error) error {
	took, err := r.c.get(r.ctx, path, read)
	r.out.Took += took
	if e, ok := errors.AsType[*Error](err); ok && e.Code/100 == 4 {
		p.refused(r.now, err)
	} else if err == nil {
		p.paid(r.now, took)
	}
	return err
}

// stats reads the gauges and counters that are visible, or repeats what they said while reading them again is not paid for. It
// reads each time when the hosts say nothing.
func (r *reading) stats(hosts drain.Count) (http, conns drain.Count, err error) {
	t := &r.c.total
	a, busy := &t.allowance, hosts.N > 0
	if hosts.Known && !a.due(r.now, busy) {
		r.out.StatsAge, r.out.StatsEvery = r.now.Sub(a.at), a.every(busy)
		if t.newRequests.Known {
			r.out.RequestsAge = r.out.StatsAge
		}
		r.out.Conns, r.out.NewConns, r.out.Requests = t.conns, t.newConns, either(t.newRequests, r.out.Requests)
		return t.http, t.conns, nil
	}
	before := r.out.Took
	err = r.gather()
	r.out.Conns, r.out.NewConns, r.out.Requests = t.conns, t.newConns, either(t.newRequests, r.out.Requests)
	if took := r.out.Took - before; hosts.Known && err == nil {
		a.spent(r.now, took)
		r.out.StatsEvery, r.out.Spared = a.every(busy), took
	}
	return t.http, t.conns, err
}

// gather leaves in the totals what can be read of the statistics.
func (r *reading) gather() error {
	c, v, t := r.c, r.c.view, &r.c.total
	t.http, t.conns, t.upgrades, t.newConns, t.newRequests = drain.Count{}, drain.Count{}, drain.Count{}, drain.Count{}, drain.Count{}
	gauges, err := r.read(&c.price.gauges, "Gauges", v.gauges)
	if gauges != nil {
		t.http, t.conns, t.upgrades = sum(gauges, v.http), sum(gauges, v.conns), sum(gauges, v.upgrades)
	}
	if silent(err) {
		return err
	}
	counters, errCounters := r.read(&c.price.counters, "Counters", v.counters)
	if counters != nil {
		t.newConns, t.newRequests = t.opened.count(sum(counters, v.opened)), t.requests.count(sum(counters, v.requests))
	}
	return errors.Join(err, errCounters)
}

func either(a, b drain.Count) drain.Count {
	if a.Known {
		return a
	}
	return b
}

// read asks for the visible statistics of one type; nil means that they were not read.
func (r *reading) read(p *price, kind string, names []string) (map[string]int64, error) {
	if len(names) == 0 {
		return nil, nil
	}
	if !p.readable(r.now, r.forced) {
		return nil, p.err
	}
	var values map[string]int64
	err := r.get(p, statsPath(kind, true, names), func(body io.Reader) (err error) {
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
