package conductor

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

const (
	courtesy  = 20 // whoever answers spends at most 1/20 of its time on us
	readLimit = time.Second
	pageLimit = 5 * time.Second        // of an app's page
	descLimit = 10 * time.Second       // of Envoy's configuration, which may be large; readings go on meanwhile
	refused   = "refused"              // the failure that costs nobody anything
	backOff   = 250 * time.Millisecond // after a reading that failed
	tellsCost = 50 * time.Millisecond  // so much is believed of an app's first answer, and twice as much of each that follows
	saidAfter = 5                      // failures in a row a person is told that a container cannot be watched: at a start some are no news
)

// poller reads one source again and again: as often as the core wants, or only when told. What cannot be read is tried again even
// when nobody asks: it may only just be starting.
type poller struct {
	c        *Conductor
	pick     func(*drain.Looks) drain.Pace
	wanted   atomic.Uint32   // a drain.Pace
	repaced  chan struct{}   // wanted is another one
	once     chan struct{}   // read now
	changed  <-chan struct{} // of the source itself: it is read at once
	read     func(ctx context.Context, p *poller, at time.Duration)
	limit    time.Duration // of one reading, at most
	doubts   bool          // that a slow answer tells what it costs: an app may have stood still
	failures int           // in a row
	failure  string        // of the newest reading
	took     time.Duration // by it
	cost     time.Duration // of a reading, as far as it is believed
	behind   bool          // rarer questions to the same source are not paid for yet: see spacing
	speaks   time.Duration // for so long, or a little longer, the newest reading does: see drain.Reading.Fresh
	began    time.Time     // the newest reading
	since    time.Time     // the core waits for a reading of this time or later; zero: for none
}

func (c *Conductor) makePollers() {
	add := func(limit time.Duration, pick func(*drain.Looks) drain.Pace, read func(context.Context, *poller, time.Duration)) *poller {
		p := &poller{c: c, pick: pick, repaced: make(chan struct{}, 1), once: make(chan struct{}, 1), read: read, limit: limit}
		c.pollers = append(c.pollers, p)
		return p
	}
	if c.cfg.World.Proxy != nil {
		add(readLimit, func(l *drain.Looks) drain.Pace { return l.Proxy }, c.readProxy())
	}
	for i, source := range c.cfg.World.Apps {
		app := add(pageLimit, func(l *drain.Looks) drain.Pace { return l.Apps[i] }, c.readApp(i, source))
		app.changed, app.doubts = source.Changed, true
	}
	for _, watch := range c.cfg.World.Watches {
		add(readLimit, func(l *drain.Looks) drain.Pace { return l.Watches }, c.readWatch(watch))
	}
	if c.cfg.World.Sockets != nil {
		add(readLimit, func(l *drain.Looks) drain.Pace { return l.Sockets }, c.readSockets)
	}
}

// repace says how often to read from now on, and whether to read at once.
func (p *poller) repace(pace drain.Pace, now bool) {
	if drain.Pace(p.wanted.Swap(uint32(pace))) != pace {
		signal(p.repaced)
	}
	if now {
		signal(p.once)
	}
}

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

func (p *poller) pace() drain.Pace { return drain.Pace(p.wanted.Load()) }

func (p *poller) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for idle := true; ; {
		var tick <-chan time.Time
		asked := false
		if p.pace() != drain.WhenTold || p.failures > 0 {
			timer.Reset(min(p.rest(), p.speaks) - time.Since(p.began))
			tick = timer.C
		}
		select {
		case <-ctx.Done():
			return
		case <-p.repaced:
			was := idle
			if idle = p.pace() == drain.WhenTold; was && !idle {
				p.failures, p.failure = 0, "" // a drain begins: what failed before says little
				p.believe(p.cost)
			}
			continue
		case <-p.once:
			asked = true
		case <-tick:
		case <-p.changed:
		}
		p.begin(asked)
		reading, cancel := context.WithTimeout(ctx, p.patience())
		p.read(reading, p, p.c.elapsed())
		cancel()
	}
}

// begin notes the time of a reading, and since when the core waits for one: it reads fastest while the next may let a container go, and asks
// anew whenever what it waits for is another zero.
func (p *poller) begin(asked bool) {
	p.began = time.Now()
	switch fast := p.pace() == drain.Fast; {
	case !fast:
		p.since = time.Time{}
	case asked, p.since.IsZero():
		p.since = p.began
	}
}

// patience is how long one reading may take. Who always answered soon is asked again soon where it hangs once; who needs long, or failed
// before, gets its whole limit.
func (p *poller) patience() time.Duration {
	if p.failures == 0 && 2*p.took < readLimit {
		return min(p.limit, readLimit)
	}
	return p.limit
}

// note takes down what a reading took and how it failed ("" when it did not), and returns when the next one is due.
func (p *poller) note(took time.Duration, failure string) time.Duration {
	p.took, p.failure = took, failure
	if failure != "" {
		p.failures++
		return p.says()
	}
	p.failures = 0
	if p.cost == 0 {
		p.believe(took)
	}
	p.cost = min(took, 2*p.cost) // one slow answer may be anybody's fault, many in a row are not
	return p.says()
}

// believe takes a first answer for what they all cost; each drain begins with a doubt, so that a page that takes seconds is read a few
// times in it.
func (p *poller) believe(cost time.Duration) {
	p.cost = cost
	if p.doubts {
		p.cost = min(cost, tellsCost)
	}
}

// says returns when the next reading is due, and notes for how long this one speaks: where others are then asked for less often, it must
// not have become stale before the next. A source is asked no more often than its answer takes: that is as old when it comes.
func (p *poller) says() time.Duration {
	every := max(p.rest(), p.took)
	p.speaks = max(3*every, 400*time.Millisecond)
	return every
}

// rest is the time from the beginning of the newest reading to that of the next. A failure rests longer each time, but never longer
// than an answer that took as long, and less where answers used to be cheap: what is unknown holds the drain.
func (p *poller) rest() time.Duration {
	doublings := 6
	if p.cost > 0 && p.cost <= tellsCost {
		doublings = 4
	}
	every, resting := p.pace().Every(p.c.cfg.Poll), backOff<<min(max(p.failures-1, 0), doublings)
	switch {
	case p.failures == 0:
		return max(every, p.spacing())
	case p.pace() == drain.WhenTold:
		return resting
	case p.failure == refused:
		return every
	default:
		return max(every, backOff, min(courtesy*p.took, resting))
	}
}

// spacing is the time from one reading to the next that costs the source no more than its share. While rarer questions are not paid
// for, it is three times as long, but no more than a second for that.
func (p *poller) spacing() time.Duration {
	every := courtesy * p.cost
	if p.behind && p.pace() != drain.Fast {
		return max(every, min(3*every, time.Second))
	}
	return every
}

// readProxy has Envoy described anew whenever it was away, for it may be another process then, or was configured anew.
func (c *Conductor) readProxy() func(context.Context, *poller, time.Duration) {
	away := false
	note := ""
	return func(ctx context.Context, p *poller, at time.Duration) {
		look := c.cfg.World.Proxy(ctx, p.since)
		if look.Changed || away && look.Failure != refused {
			c.lookAgain()
		}
		away, p.behind = look.Failure == refused, look.Behind
		every := max(p.note(look.Took-look.Spared, look.Failure), look.Took)
		inFlight := drain.Reading{Count: look.InFlight, At: at - look.Age, Every: every}
		if look.Age > 0 {
			inFlight.Every = max(every, look.StatsEvery)
		}
		bytes := inFlight
		bytes.Count = look.Bytes
		stat := func(n drain.Count, age time.Duration) drain.Reading { // however new: the next one comes that late
			return drain.Reading{Count: n, At: at - age, Every: max(every, look.StatsEvery)}
		}
		c.sawProxy(look)
		if look.Note != "" && look.Note != note {
			c.note(look.Note)
		}
		note = look.Note
		if proxy := c.cfg.Policy.Proxy(); proxy != drain.Nobody && look.Live != drain.Unseen {
			c.send(drain.Input{Kind: drain.Seen, Container: proxy, Live: look.Live, Looked: at})
		}
		c.deliver(message{classes: look.Classes, errors: look.Errors, Input: drain.Input{Kind: drain.ProxySampled, Proxy: drain.ProxySample{
			InFlight: inFlight, Bytes: bytes, Conns: stat(look.Conns, look.StatsAge), NewConns: stat(look.NewConns, look.StatsAge), Requests: stat(look.Requests, look.RequestsAge),
		}}})
	}
}

func (c *Conductor) readApp(i int, source AppSource) func(context.Context, *poller, time.Duration) {
	problem := ""
	return func(ctx context.Context, p *poller, at time.Duration) {
		began := time.Now()
		n, err := source.Read(ctx)
		every := p.note(time.Since(began), errorText(err))
		c.cfg.Metrics.InFlight("app", source.Spec, n.N, n.Known)
		if text := errorText(err); text != problem {
			problem = text
			c.noteProblem(source.Spec, err)
		}
		m := message{Input: drain.Input{Kind: drain.AppSampled, Source: i, InFlight: drain.Reading{Count: n, At: at, Every: every}, Closed: nobodyThere(err)}}
		if source.Classes != nil {
			m.classes = source.Classes()
		}
		c.cfg.Metrics.Classes("app", source.Spec, m.classes)
		c.deliver(m)
	}
}

// nobodyThere reports whether a source was not read because nobody serves it any more.
func nobodyThere(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (c *Conductor) readWatch(watch Watch) func(context.Context, *poller, time.Duration) {
	said := false
	return func(ctx context.Context, p *poller, at time.Duration) {
		began := time.Now()
		live, err := watch.Look(ctx)
		p.note(time.Since(began), errorText(err))
		if p.failures >= saidAfter && !said || err == nil && said {
			said = !said
			c.noteProblem("watch of "+c.cfg.Policy.Name(watch.Container), err)
		}
		c.send(drain.Input{Kind: drain.Seen, Container: watch.Container, Live: live, Looked: at})
	}
}

func (c *Conductor) readSockets(ctx context.Context, p *poller, at time.Duration) {
	began := time.Now()
	look, err := c.cfg.World.Sockets(ctx)
	every := p.note(time.Since(began), errorText(err))
	reading := func(n drain.Count) drain.Reading { return drain.Reading{Count: n, At: at, Every: every} }
	c.send(drain.Input{Kind: drain.SocketsSampled, Sockets: drain.SocketSample{
		Conns: reading(look.Conns), NewConns: reading(look.NewConns), Data: reading(look.Data), Bytes: reading(look.Bytes), Stalled: reading(look.Stalled),
	}})
}
