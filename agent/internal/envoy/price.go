package envoy

import (
	"errors"
	"fmt"
	"time"
)

const (
	share20       = 20                     // whoever answers spends at most 1/20 of its time on us
	tooDear       = time.Second / share20  // what costs more cannot be read once a second
	retryDear     = 10 * time.Second       // a demoted rung is tried again after this long, or after 2 × share20 × its cost
	statsPace     = 250 * time.Millisecond // how often the statistics are read at most while hosts have requests: they cannot change the verdict then
	statsFree     = 4 * time.Second        // what was not spent in that long may be spent at once: a drain begins with questions
	unproven      = 5 * time.Millisecond   // what a first reading of the statistics is believed to cost at most; so little hardly costs anything
	unprovenWhole = time.Second            // and a first answer of /clusters
	lookPace      = time.Second            // how often the configuration is read at most
	lookEvery     = 5 * time.Second        // how often it is read at least while readings are frequent

	lookPatience = 250 * time.Millisecond // how long a reading waits for a look at the configuration
	wholeEvery   = 2 * time.Second        // how often /clusters is read without a filter at least
	savedWhole   = 3                      // so many whole answers' price may be saved up
	flushPace    = 2 * 5 * time.Second    // two of Envoy's default stats_flush_interval
)

// price remembers what a rung cost and whether it was given up.
type price struct {
	dear    int    // reads in a row above tooDear
	why     string // it is demoted
	err     error  // it is not allowed; nil when it is only too dear
	retryAt time.Time
}

// readable reports whether the rung may be read now. Forced, it may be read although it is too dear: nothing better is left.
func (p *price) readable(now time.Time, forced bool) bool {
	return p.why == "" || !now.Before(p.retryAt) || forced && p.err == nil
}

// paid books a read. One slow answer may be somebody else's query on the same thread, two in a row are a price.
func (p *price) paid(now time.Time, took time.Duration) {
	if took <= tooDear {
		p.dear, p.why, p.err = 0, "", nil
		return
	}
	if p.dear++; p.dear >= 2 {
		p.why = fmt.Sprintf("takes %s, more than %s of each second", took.Round(time.Millisecond), tooDear)
		p.retryAt = now.Add(max(retryDear, 2*share20*took))
	}
}

// book books a call as it ended. What fails otherwise may work the next time.
func (p *price) book(now time.Time, took time.Duration, err error) {
	if e, ok := errors.AsType[*Error](err); ok && e.Code/100 == 4 {
		p.refused(now, err)
	} else if err == nil {
		p.paid(now, took)
	}
}

// refused books an answer such as 403, which a second try will not cure soon.
func (p *price) refused(now time.Time, err error) {
	p.why, p.err, p.retryAt = err.Error(), err, now.Add(retryDear)
}

// prices are the prices of the rungs.
type prices struct{ clusters, stats, flush price }

func (p *prices) demoted() []string {
	var all []string
	for _, rung := range []struct {
		name string
		*price
	}{{"clusters", &p.clusters}, {"statistics", &p.stats}, {"total_connections", &p.flush}} {
		if rung.why != "" {
			all = append(all, rung.name+": "+rung.why)
		}
	}
	return all
}

// account keeps what all questions of a stop cost together. Each kind is spaced by itself, and a stop begins with one of each; until
// these are paid for, the most frequent kind is asked a third as often.
type account struct {
	paid time.Time // when all of them will have cost 1/20 of Envoy's time
}

// spent books what a reading cost; since is when the stop began.
func (a *account) spent(since time.Time, took time.Duration) {
	if a.paid.Before(since) {
		a.paid = since
	}
	a.paid = a.paid.Add(share20 * took)
}

// behind reports whether more than a reading of that cost is still to be paid for.
func (a *account) behind(now time.Time, cost time.Duration) bool {
	return a.paid.Sub(now) > share20*cost
}

// allowance spaces the readings of the statistics: Envoy walks through all of them for each. The hosts, which say most of what there
// is to say, cost far less and are read far more often.
type allowance struct {
	at   time.Time     // the newest reading
	paid time.Time     // when the readings so far will have cost 1/20 of Envoy's time
	busy time.Time     // when they will have cost 1/100 of it
	cost time.Duration // of one reading, believed twofold of the one before at most, and the first as unproven at most
}

// due reports whether to read now: with requests under way for a fifth of the share and what was not spent shortly before, since
// little hangs on it; without, for all of it and one reading ahead, because one proves zero and the next one that it stays.
func (a *allowance) due(now time.Time, busy bool) bool {
	if busy {
		return now.Sub(a.at) >= a.every(busy)
	}
	return a.paid.Sub(now) <= share20*a.cost
}

func (a *allowance) spent(now time.Time, took time.Duration) {
	if a.cost > 0 {
		took = min(took, 2*a.cost)
	} else {
		took = min(took, unproven) // Envoy may just be starting: what is dear shows it again
	}
	a.at, a.cost = now, took
	if a.paid.Before(now) {
		a.paid = now
	}
	a.paid = a.paid.Add(share20 * took)
	if free := now.Add(-statsFree); a.busy.Before(free) {
		a.busy = free
	} else if a.busy.After(now) {
		a.busy = now
	}
	a.busy = a.busy.Add(5 * share20 * took)
}

// every is the longest time from the newest reading to the next.
func (a *allowance) every(busy bool) time.Duration {
	if busy {
		return max(statsPace, a.busy.Sub(a.at))
	}
	return share20 * a.cost
}
