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
)

// poller reads one source again and again: at the polling period while the core wants it fast, else only when told.
type poller struct {
	c    *Conductor
	once chan struct{}
	read func(ctx context.Context, at time.Duration, every time.Duration) (took time.Duration, ok bool)
}

func (c *Conductor) makePollers() {
	add := func(read func(context.Context, time.Duration, time.Duration) (time.Duration, bool)) {
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
	every := p.c.cfg.Poll
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var tick <-chan time.Time
		if p.c.fast.Load() {
			tick = timer.C
		}
		select {
		case <-ctx.Done():
			return
		case <-p.once:
		case <-tick:
		}
		began := time.Now()
		reading, cancel := context.WithTimeout(ctx, readLimit)
		took, ok := p.read(reading, p.c.elapsed(), every)
		cancel()
		every = max(p.c.cfg.Poll, courtesy*took)
		if !ok {
			every = max(every, backOff)
		}
		timer.Reset(every - time.Since(began))
	}
}

// readProxy describes Envoy first, and again whenever it was away: it may be another process then.
func (c *Conductor) readProxy() func(context.Context, time.Duration, time.Duration) (time.Duration, bool) {
	described := c.cfg.World.Describe == nil
	note := ""
	return func(ctx context.Context, at, every time.Duration) (time.Duration, bool) {
		if !described {
			described = c.describe(ctx)
		}
		look := c.cfg.World.Proxy(ctx)
		if look.Failure == refused {
			described = c.cfg.World.Describe == nil
		}
		reading := func(n drain.Count) drain.Reading { return drain.Reading{Count: n, At: at, Every: every} }
		c.sawProxy(look)
		if look.Note != "" && look.Note != note {
			c.note(look.Note)
		}
		note = look.Note
		if proxy := c.cfg.Policy.Proxy(); proxy != drain.Nobody && look.Live != drain.Unseen {
			c.send(drain.Input{Kind: drain.Seen, Container: proxy, Live: look.Live})
		}
		c.send(drain.Input{Kind: drain.ProxySampled, Proxy: drain.ProxySample{
			InFlight: reading(look.InFlight), Conns: reading(look.Conns), NewConns: reading(look.NewConns), Requests: reading(look.Requests),
		}})
		return look.Took, look.Failure == "" || look.Failure == refused
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
		if left, ok := c.journal.load(d.Epoch); ok {
			c.send(drain.Input{Kind: drain.Restored, Journal: left})
		}
	}
	c.send(drain.Input{Kind: drain.Described, Facts: d.Facts})
	return true
}

func (c *Conductor) readApp(i int, source AppSource) func(context.Context, time.Duration, time.Duration) (time.Duration, bool) {
	problem := ""
	return func(ctx context.Context, at, every time.Duration) (time.Duration, bool) {
		began := time.Now()
		n, err := source.Read(ctx)
		c.cfg.Metrics.InFlight("app", source.Spec, n.N, n.Known)
		if text := errorText(err); text != problem {
			problem = text
			c.noteProblem(source.Spec, err)
		}
		c.send(drain.Input{Kind: drain.AppSampled, Source: i, InFlight: drain.Reading{Count: n, At: at, Every: every}})
		return time.Since(began), err == nil
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (c *Conductor) readWatch(watch Watch) func(context.Context, time.Duration, time.Duration) (time.Duration, bool) {
	return func(ctx context.Context, _, _ time.Duration) (time.Duration, bool) {
		began := time.Now()
		live, err := watch.Look(ctx)
		c.send(drain.Input{Kind: drain.Seen, Container: watch.Container, Live: live})
		return time.Since(began), err == nil
	}
}

func (c *Conductor) readSockets(ctx context.Context, at, every time.Duration) (time.Duration, bool) {
	began := time.Now()
	conns, newConns, err := c.cfg.World.Sockets(ctx)
	reading := func(n drain.Count) drain.Reading { return drain.Reading{Count: n, At: at, Every: every} }
	c.send(drain.Input{Kind: drain.SocketsSampled, Sockets: drain.SocketSample{Conns: reading(conns), NewConns: reading(newConns)}})
	return time.Since(began), err == nil
}
