package simulation

import (
	"time"
)

// The kinds of clients.
const (
	fresh  = "fresh"  // a connection for each request
	pooled = "pooled" // kept-alive HTTP/1.1 connections, each used again and again
	multi  = "h2"     // HTTP/2: many streams on a connection
	slow   = "slow"   // takes its answers slowly
	stream = "stream" // long streams
	knock  = "knock"  // opens and closes connections without a request: a TCP check by a balancer
	check  = "check"  // the same by kubelet: a tcpSocket probe of Envoy's port, which no balancer leads elsewhere
)

// clientSpec says what one client does, all of it open loop: nobody waits for an answer before the next request is due.
type clientSpec struct {
	Kind    string
	Conns   int
	Every   time.Duration // mean time between two uses of one connection, or between two connections; 0: never used
	Poisson bool
	Burst   bool          // all connections are used at the same time
	Work    time.Duration // mean time that a request takes; 0: the mix of the measured rollouts
	Size    int64
	Rate    float64 // bytes per second
	Stalls  bool    // stops reading in the middle
	Deaf    bool    // ignores GOAWAY
}

// client is one of them at work.
type client struct {
	spec clientSpec
	dice dice
}

// startClients opens the pools and plans the first uses.
func (p *pod) startClients() {
	for i, spec := range p.sc.Clients {
		c := &client{spec: spec, dice: newDice(p.sc.Seed, "client", i)}
		p.clients = append(p.clients, c)
		switch spec.Kind {
		case "": // left out
		case fresh, knock:
			p.after(c.pause(), func() { p.comeFresh(c) })
		case check:
			p.after(c.dice.between(0, spec.Every), func() { p.comeFresh(c) })
		default:
			phase := c.dice.between(0, spec.Every)
			for range spec.Conns {
				first := c.dice.between(0, spec.Every)
				if spec.Burst {
					first = phase + c.dice.between(0, 200*ms)
				}
				p.after(c.dice.between(0, 100*ms), func() { p.openPooled(c, first) })
			}
		}
	}
}

func (p *pod) openPooled(c *client, first time.Duration) {
	n := p.open(c)
	if n != nil && c.spec.Every > 0 {
		p.after(first, func() { p.use(n) })
	}
}

// pause is the time until the next use.
func (c *client) pause() time.Duration {
	switch {
	case c.spec.Poisson || c.spec.Kind == fresh:
		return time.Duration(c.dice.ExpFloat64() * float64(c.spec.Every))
	case c.spec.Burst, c.spec.Kind == check:
		return c.spec.Every
	}
	return time.Duration((0.8 + 0.4*c.dice.Float64()) * float64(c.spec.Every))
}

// work is how long the app needs.
func (c *client) work() time.Duration {
	if c.spec.Work > 0 {
		return time.Duration((0.7 + 0.6*c.dice.Float64()) * float64(c.spec.Work))
	}
	switch n := c.dice.IntN(100); {
	case n < 90:
		return c.dice.between(5*ms, 20*ms)
	case n < 99:
		return 2 * sec
	}
	return 8 * sec
}

// open opens a connection, to this pod as long as the balancer sends them here.
func (p *pod) open(c *client) *conn {
	if probes := c.spec.Kind == check; !probes && !p.routed() || probes && !p.envoy.up {
		return nil
	}
	if !p.envoy.up {
		p.sentCount++
		r := &request{id: p.sentCount, client: c, sent: p.now, fresh: true, over: true}
		p.lose(r, "refused: no Envoy", p.envoy.killedBy)
		return nil
	}
	n := &conn{client: c, opened: p.now, h2: c.spec.Kind == multi || c.spec.Kind == stream, bare: c.spec.Kind == knock || c.spec.Kind == check}
	p.envoy.conns[n] = true
	p.envoy.accepted++
	if p.deletedAt > 0 {
		p.seen.opened++
	}
	if !n.bare {
		p.lastConn = p.now
	}
	return n
}

// routed reports whether a new connection comes to this pod.
func (p *pod) routed() bool { return p.deletedAt == 0 || p.now < p.deletedAt+p.sc.Routed }

func (p *pod) comeFresh(c *client) {
	if n := p.open(c); n != nil {
		if n.bare {
			p.after(ms, func() { p.hangUp(n) })
		} else {
			p.send(n, true)
		}
	}
	if p.goesOn() {
		p.after(c.pause(), func() { p.comeFresh(c) })
	}
}

// goesOn ends the traffic when there is nobody left to meet it.
func (p *pod) goesOn() bool { return !p.gone && p.now < p.sc.Warm+10*time.Minute }

// use is the next use of a kept connection. Who was told to leave, or sees that the other side has closed, goes elsewhere.
func (p *pod) use(n *conn) {
	c := n.client
	switch {
	case !p.goesOn():
		return
	case n.closed:
		if since := p.now - p.envoy.ended; !p.envoy.up && since < roundTrip && !n.told {
			p.sentCount++
			r := &request{id: p.sentCount, client: c, conn: n, sent: p.now, over: true}
			p.lose(r, "reset: it met the end of Envoy", p.envoy.killedBy)
		}
		return
	case n.told && !c.spec.Deaf:
		if n.active == 0 {
			p.hangUp(n)
		}
		return
	case n.h2 || n.active == 0:
		p.send(n, false)
	}
	p.after(c.pause(), func() { p.use(n) })
}

func (p *pod) send(n *conn, alone bool) {
	c := n.client
	p.sentCount++
	r := &request{id: p.sentCount, client: c, conn: n, sent: p.now, fresh: alone, work: c.work(), size: c.spec.Size, rate: c.spec.Rate}
	if c.spec.Stalls && c.dice.chance(0.3) {
		r.stallsAt = r.size / 3
	}
	p.enter(r)
}
