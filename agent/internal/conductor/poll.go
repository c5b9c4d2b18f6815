package conductor

import (
	"context"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

const (
	courtesy  = 20 // whoever answers spends at most 1/20 of its time on us
	readLimit = time.Second
	refused   = "refused"              // the failure that costs nobody anything
	backOff   = 250 * time.Millisecond // after a reading that failed
	saidAfter = 5                      // failures in a row a person is told that a container cannot be watched: at a start some are no news
)

// poller reads one source again and again: at the polling period while the core wants it fast, else only when told. What cannot
// be read is tried again even when nobody asks: it may only just be starting.
type poller struct {
	c        *Conductor
	once     chan struct{}
	read     func(ctx context.Context, p *poller, at time.Duration)
	every    time.Duration // from the beginning of the newest reading to that of the next
	failures int           // in a row
	cost     time.Duration // of a reading, as far as it is believed
}

func (c *Conductor) makePollers() {
	add := func(read func(context.Context, *poller, time.Duration)) {
		c.pollers = append(c.pollers, &poller{c: c, once: make(chan struct{}, 1), read: read})
	}
	if c.cfg.World.Proxy != nil {
		add(c.readProxy())
	}
	for i, source := range c.cfg.World.Apps {
		add(c.readApp(i, source))
	}
	for _, watch := range c.cfg.World.Watches {
		add(c.readWatch(watch))
	}
	if c.cfg.World.Sockets != nil {
		add(c.readSockets)
	}
}

// wakePollers makes every poller read once and notice the pace.
func (c *Conductor) wakePollers() {
	for _, p := range c.pollers {
		select {
		case p.once <- struct{}{}:
		default:
		}
	}
}

func (p *poller) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var tick <-chan time.Time
		if p.c.fast.Load() || p.failures > 0 {
			tick = timer.C
		}
		select {
		case <-ctx.Done():
			return
		case <-p.once:
			if p.c.fast.Load() {
				p.failures = 0 // a drain begins: what failed before says little
			}
		case <-tick:
		}
		began := time.Now()
		reading, cancel := context.WithTimeout(ctx, readLimit)
		p.read(reading, p, p.c.elapsed())
		cancel()
		timer.Reset(p.every - time.Since(began))
	}
}

// pace decides when to read next, from what this reading took and how it failed ("" when it did not). A failure rests longer each
// time, but never longer than an answer that took as long: what is unknown holds the drain.
func (p *poller) pace(took time.Duration, failure string) time.Duration {
	if failure == "" {
		p.failures = 0
		if p.cost == 0 {
			p.cost = took
		}
		p.cost = min(took, 2*p.cost) // one slow answer may be anybody's fault, many in a row are not
		p.every = max(p.c.cfg.Poll, courtesy*p.cost)
		return p.every
	}
	p.failures++
	resting := backOff << min(p.failures-1, 6)
	switch fast := p.c.fast.Load(); {
	case !fast:
		p.every = resting
	case failure == refused:
		p.every = p.c.cfg.Poll
	default:
		p.every = max(p.c.cfg.Poll, backOff, min(courtesy*took, resting))
	}
	return p.every
}

// readProxy describes Envoy first, and again whenever it was away: it may be another process then.
func (c *Conductor) readProxy() func(context.Context, *poller, time.Duration) {
	described := c.cfg.World.Describe == nil
	note := ""
	return func(ctx context.Context, p *poller, at time.Duration) {
		if !described {
			described = c.describe(ctx)
		}
		look := c.cfg.World.Proxy(ctx)
		if look.Failure == refused {
			described = c.cfg.World.Describe == nil
		}
		every := p.pace(look.Took-look.Spared, look.Failure)
		inFlight := drain.Reading{Count: look.InFlight, At: at - look.Age, Every: every}
		if look.Age > 0 {
			inFlight.Every = max(every, look.StatsEvery)
		}
		stat := func(n drain.Count, age time.Duration) drain.Reading { // however new: the next one comes that late
			return drain.Reading{Count: n, At: at - age, Every: max(every, look.StatsEvery)}
		}
		c.sawProxy(look)
		if look.Note != "" && look.Note != note {
			c.note(look.Note)
		}
		note = look.Note
		if proxy := c.cfg.Policy.Proxy(); proxy != drain.Nobody && look.Live != drain.Unseen {
			c.send(drain.Input{Kind: drain.Seen, Container: proxy, Live: look.Live})
		}
		c.deliver(message{classes: look.Classes, errors: look.Errors, Input: drain.Input{Kind: drain.ProxySampled, Proxy: drain.ProxySample{
			InFlight: inFlight, Conns: stat(look.Conns, look.StatsAge), NewConns: stat(look.NewConns, look.StatsAge), Requests: stat(look.Requests, look.RequestsAge),
		}}})
	}
}

func (c *Conductor) describe(ctx context.Context) bool {
	d, err := c.cfg.World.Describe(ctx)
	if err != nil {
		return false
	}
	last := c.epoch.Swap(&d.Epoch)
	if last == nil || *last != d.Epoch {
		d.Facts.Replaced = last != nil
		c.note(d.Text)
		c.restore(d.Epoch)
	}
	c.send(drain.Input{Kind: drain.Described, Facts: d.Facts})
	return true
}

func (c *Conductor) readApp(i int, source AppSource) func(context.Context, *poller, time.Duration) {
	problem := ""
	return func(ctx context.Context, p *poller, at time.Duration) {
		began := time.Now()
		n, err := source.Read(ctx)
		every := p.pace(time.Since(began), errorText(err))
		c.cfg.Metrics.InFlight("app", source.Spec, n.N, n.Known)
		if text := errorText(err); text != problem {
			problem = text
			c.noteProblem(source.Spec, err)
		}
		m := message{Input: drain.Input{Kind: drain.AppSampled, Source: i, InFlight: drain.Reading{Count: n, At: at, Every: every}}}
		if source.Classes != nil {
			m.classes = source.Classes()
		}
		c.cfg.Metrics.Classes("app", source.Spec, m.classes)
		c.deliver(m)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (c *Conductor) readWatch(watch Watch) func(context.Context, *poller, time.Duration) {
	said := false
	return func(ctx context.Context, p *poller, _ time.Duration) {
		began := time.Now()
		live, err := watch.Look(ctx)
		p.pace(time.Since(began), errorText(err))
		if p.failures >= saidAfter && !said || err == nil && said {
			said = !said
			c.noteProblem("watch of "+c.cfg.Policy.Name(watch.Container), err)
		}
		c.send(drain.Input{Kind: drain.Seen, Container: watch.Container, Live: live})
	}
}

func (c *Conductor) readSockets(ctx context.Context, p *poller, at time.Duration) {
	began := time.Now()
	conns, newConns, err := c.cfg.World.Sockets(ctx)
	every := p.pace(time.Since(began), errorText(err))
	reading := func(n drain.Count) drain.Reading { return drain.Reading{Count: n, At: at, Every: every} }
	c.send(drain.Input{Kind: drain.SocketsSampled, Sockets: drain.SocketSample{Conns: reading(conns), NewConns: reading(newConns)}})
}
