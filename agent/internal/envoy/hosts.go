package envoy

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// hostSums adds up what hosts say, by the rule.
type hostSums struct {
	rule    *rule
	classes classes
	admin   home
	ours    func() map[string]bool

	share   share            // of the cluster at hand
	apart   map[string]int64 // active, of the classes that clusters tell
	active  int64            // requests and proxied TCP connections at a host, or waiting for a connection to it
	asked   int64            // requests that somebody is asked about before they have a host
	total   int64            // requests and proxied TCP connections so far
	errors  int64            // of these, what failed
	counted []string         // clusters that count
	busy    []string         // those with something under way
	busyAt  map[place]bool   // where
	took    time.Duration    // that Envoy was waited for
	missing map[place]bool   // where something was under way before, and nothing was listed yet
}

func newSums(c *Client, v *view) *hostSums {
	return &hostSums{rule: &v.rule, classes: v.classes, admin: homeAt(c.host), ours: sync.OnceValue(ownAddresses), apart: map[string]int64{}, busyAt: map[place]bool{}, missing: c.lost.missing()}
}

func (t *hostSums) want(head clusterHead) bool {
	if t.share = t.rule.of(head); t.share == noHost {
		maps.DeleteFunc(t.missing, func(p place, _ bool) bool { return p.cluster == head.name }) // no longer of interest
		return false
	}
	t.counted = append(t.counted, head.name)
	return true
}

func (t *hostSums) add(cluster string, h *host) error {
	if len(t.missing) > 0 {
		delete(t.missing, placeOf(cluster, h))
	}
	home := t.admin.leads(h) || cluster == "agent" && h.port == istioAgentPort
	switch {
	case home, h.internal: // what passes another listener of the same Envoy is counted at its real cluster
		return nil
	case t.share == ownHosts && localPort(h.ip, h.port, t.ours()) == 0:
		return nil
	case h.active > 0 && (len(t.busy) == 0 || t.busy[len(t.busy)-1] != cluster):
		t.busy = append(t.busy, cluster)
	}
	if h.active > 0 {
		t.busyAt[placeOf(cluster, h)] = true
	}
	if t.share == askedHosts {
		t.asked += h.active
		return nil
	}
	t.active, t.total, t.errors = t.active+h.active, t.total+h.total, t.errors+h.errors
	if class := t.classes.of(cluster); class != "" && h.active > 0 {
		t.apart[class] += h.active
	}
	return nil
}

// whole is the newest answer of /clusters that was not shortened by a filter.
type whole struct {
	known  bool
	ever   bool // with any view
	at     time.Time
	took   time.Duration
	paid   time.Time     // when the answers so far will have cost 1/20 of Envoy's time
	booked time.Duration // of the newest in it
	moved  changes       // the configuration's counters before it
	n      int64
	names  []string // for the next filter
	full   bool     // these are all that count; otherwise only those with something under way
	reader *job[*hostSums]
	begun  time.Time // the answer that it reads
	before changes   // that one's
	idle   bool      // it is one of those that are rare in a pod which serves: due spaces it enough
}

// stands reports whether no cluster came or went since: what is read of those that counted then is all there is to read.
func (w *whole) stands(moved changes) bool {
	return w.known && w.full && moved.known && w.moved == moved
}

// due reports whether the next answer is to be a whole one. Where nothing but such answers proves a zero, half of what they may cost is
// left for the moment when somebody waits for one; while something is under way, none that costs much is needed.
func (w *whole) due(now time.Time, moved changes, busy bool) bool {
	age := now.Sub(w.at)
	switch {
	case w.known && w.paid.After(now):
		return false
	case !w.known:
		return age >= share20*min(w.took, time.Second)
	case moved.known && w.moved.known && w.moved != moved:
		return age >= share20*w.took
	case !w.stands(moved) && (!busy || w.took <= unproven):
		return age >= 2*share20*w.took
	default: // no cluster came or went; hosts may have
		return age >= max(wholeEvery, 10*share20*w.took)
	}
}

// ahead reports whether one may be read that somebody waits for, unless the newest is of that time: one ahead of its price, which over a
// whole stop comes to 1/20 of Envoy's time and two answers at most.
func (w *whole) ahead(now, since time.Time) bool {
	return w.at.Before(since) && w.paid.Sub(now) <= share20*w.took
}

// spent books an answer; what was not spent since readings became frequent, which is when a stop begins, may be spent later in it, and an
// answer in a pod that serves costs a stop nothing. An answer is believed twofold of the one before at most, and the first one little: an
// Envoy that stood still for seconds, or is just loading its configuration, answers late once, and would not be asked for minutes. What the
// one before took longer than this one was a wait and no price: it is given back.
func (w *whole) spent(took time.Duration, frequent time.Time) {
	if w.took > 0 {
		took = min(took, 2*w.took)
	} else {
		took = min(took, unprovenWhole)
	}
	w.paid = w.paid.Add(-share20 * max(0, w.booked-took))
	if w.took, w.booked = took, 0; w.idle {
		return
	}
	w.booked = took
	if w.paid.Before(frequent) {
		w.paid = frequent
	}
	if most := w.at.Add(-savedWhole * share20 * took); w.paid.Before(most) {
		w.paid = most
	}
	w.paid = w.paid.Add(share20 * took)
}

// hosts reads the first rung: all clusters, or those that counted in the whole answer before.
func (r *reading) hosts() (drain.Count, error) {
	c := r.c
	p, w := &c.price.clusters, &c.whole
	switch {
	case !p.readable(r.now, true):
		return drain.Count{}, p.err
	case w.reader != nil:
		return r.readWhole()
	case w.due(r.now, c.moved, len(c.lost.busy) > 0):
		return r.beginWhole()
	default:
		return r.readNarrow()
	}
}

// anew makes a zero new that is as old as the last whole answer, by another one, unless the counters of changes tell that nothing came or went.
func (r *reading) anew(hosts drain.Count) (drain.Count, error) {
	c := r.c
	if r.narrow && c.whole.stands(c.moved) || c.whole.reader != nil || !c.whole.ahead(r.now, r.since) {
		return hosts, nil
	}
	return r.beginWhole()
}

func (r *reading) beginWhole() (drain.Count, error) {
	c, w := r.c, &r.c.whole
	w.before, w.begun, w.idle = c.moved, r.now, c.frequent.Equal(r.now) && r.since.IsZero()
	sums := newSums(c, c.view)
	w.reader = start(func(ctx context.Context) (*hostSums, error) {
		var err error
		sums.took, err = c.ask(ctx, thinking, "/clusters?format=json", func(body io.Reader) error { return readClusters(body, sums.want, sums.add) })
		return sums, err
	})
	return r.readWhole()
}

// readWhole waits for the whole answer. When that takes longer than the caller has, the one before it stands.
func (r *reading) readWhole() (drain.Count, error) {
	w := &r.c.whole
	if !w.reader.wait(r.ctx, 0) {
		if r.narrow = false; w.known && w.took > tooDear {
			return r.asOfWhole(), nil
		}
		return drain.Count{}, failed("GET /clusters", r.ctx.Err())
	}
	sums, err := w.reader.value, w.reader.err
	took := sums.took
	if err == nil || !w.known { // else the one before it is as old as it was
		w.at, w.moved = w.begun, w.before
	}
	if err != nil { // what failed soon is no cheaper for that
		took, w.idle = max(took, w.took), w.idle && !w.known
	}
	w.spent(took, r.c.frequent)
	r.out.Took, r.out.Spared = r.out.Took+took, r.out.Spared+took // due spaces it
	w.reader, r.wholeAt, r.narrow = nil, w.at, false
	r.c.price.clusters.book(r.now, 0, err)
	if err != nil {
		return drain.Count{}, err
	}
	if rule := &r.c.view.rule; len(sums.counted) == 0 && (len(rule.traffic) > 0 || !rule.complete) {
		w.known = false
		return drain.Count{}, errors.New("read clusters: none of them is inbound")
	}
	r.c.lost.see(r.now, sums, r.c.view)
	w.known, w.ever = true, true
	w.names, w.full = slices.Compact(sums.counted), true
	if len(filter(w.names, "")) == 0 && len(w.names) > 0 {
		w.names, w.full = sums.busy, len(sums.busy) == len(w.names)
	}
	if !w.full { // what only such answers count is not read before the next one
		r.out.StatsEvery = share20 * w.took
	}
	n := r.take(sums)
	w.n = n.N
	return n, nil
}

// readNarrow reads the clusters that counted in the last whole answer.
func (r *reading) readNarrow() (drain.Count, error) {
	w := &r.c.whole
	if !w.known {
		return drain.Count{}, errors.New("the last whole answer of /clusters could not be read")
	}
	r.narrow, r.wholeAt = true, w.at
	if len(w.names) == 0 {
		return r.asOfWhole(), nil
	}
	sums := newSums(r.c, r.c.view)
	path := clustersPath(w.names)
	if len(path) > maxQuery+100 {
		return r.asOfWhole(), nil
	}
	if err := r.get(&r.c.price.clusters, path, func(body io.Reader) error { return readClusters(body, sums.want, sums.add) }); err != nil {
		return drain.Count{}, err
	}
	if len(sums.counted) == 0 { // no proof of anything; only a whole answer can say more
		w.known = false
		return drain.Count{}, errors.New("read clusters: none of those that counted is listed any more")
	}
	r.c.lost.see(r.now, sums, r.c.view)
	n := drain.Known(sums.active) // these were all that had something under way; what the others have now only the next whole answer tells
	if w.full {
		n = r.take(sums)
	}
	w.n = n.N
	return n, nil
}

// asOfWhole repeats the last whole answer, and what is known since of those that had something under way.
func (r *reading) asOfWhole() drain.Count {
	w := &r.c.whole
	r.wholeAt, r.repeated = w.at, true
	if !w.full || !r.narrow {
		r.out.Age, r.out.StatsEvery = r.now.Sub(w.at), share20*w.took
	}
	return drain.Known(w.n)
}

// take books what all counted clusters say.
func (r *reading) take(sums *hostSums) drain.Count {
	c := r.c
	if c.view.requests == nil {
		r.out.Requests = c.total.hosts.add(sums.total)
	}
	r.out.Errors = c.total.errors.add(sums.errors)
	r.out.Classes = sums.apart
	return drain.Known(max(sums.active, sums.asked))
}

// hostsAge is how old a zero of the hosts is: a filter may hide what came after the counters of changes were read, and where the
// filter does not cover all that counts, only the whole answer proves a zero.
func (r *reading) hostsAge() time.Duration {
	if w := &r.c.whole; w.known && (!w.full || !r.narrow || !r.c.moved.known || !w.moved.known) && !r.wholeAt.IsZero() {
		return r.now.Sub(r.wholeAt)
	}
	return 0
}
