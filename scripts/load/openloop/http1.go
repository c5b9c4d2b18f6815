package openloop

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// exchange is what became of one request.
type exchange struct {
	kind    string // of the failure; empty when it was served
	detail  string
	lastUse bool // the server ended the use of the connection
	nothing bool // no byte of the request left this process
	reused  bool // the connection had carried a request before
}

// conn is one HTTP connection. http.ClientConn has no retries: those of net/http live in Transport.RoundTrip.
type conn struct {
	*http.ClientConn
	bytes *countedConn
	used  atomic.Bool
}

// open dials and speaks HTTP/1.1 or, with h2, cleartext HTTP/2 on the connection.
func open(ctx context.Context, d *dialer, h2 bool) (*conn, error) {
	raw, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return raw, nil },
		DisableCompression: true,
		Protocols:          new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(!h2)
	transport.Protocols.SetUnencryptedHTTP2(h2)
	cc, err := transport.NewClientConn(ctx, "http", d.target)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return &conn{ClientConn: cc, bytes: raw}, nil
}

// send makes one request on the connection and reads the whole answer.
func (c *conn) send(ctx context.Context, url string, last bool) exchange {
	x := exchange{reused: c.used.Swap(true)}
	var headers atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { headers.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return exchange{kind: "usage", detail: err.Error(), lastUse: true}
	}
	req.Close = last
	before := c.bytes.written.Load()
	resp, err := c.RoundTrip(req)
	if err != nil {
		x.kind, x.detail, x.lastUse = kindOf(err), err.Error(), true
		x.nothing = !headers.Load() || c.bytes.written.Load() == before
		return x
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	x.lastUse = resp.Close && !last
	switch {
	case err != nil:
		x.kind, x.detail, x.lastUse = kindOf(err)+"-in-response", err.Error(), true
	case resp.StatusCode != http.StatusOK:
		x.kind, x.detail = fmt.Sprint(resp.StatusCode), string(body[:min(len(body), 200)])
	}
	return x
}

// fresh makes one request on a connection of its own.
func (g *Generator) fresh(ctx context.Context, takes time.Duration) exchange {
	c, err := open(ctx, g.dialer, false)
	if err != nil {
		return dialFailed(err)
	}
	defer c.Close()
	return c.send(ctx, g.url(takes), true)
}

func dialFailed(err error) exchange {
	return exchange{kind: "dial-" + kindOf(err), detail: err.Error(), lastUse: true}
}

// pool holds the idle connections of the Kept client.
type pool struct {
	mu   sync.Mutex
	idle []*conn
}

// take returns the connection that was idle for the longest time, or nil.
func (p *pool) take() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	c := p.idle[0]
	p.idle = p.idle[1:]
	return c
}

func (p *pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, c)
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.Close()
	}
	p.idle = nil
}

// kept makes one request on a pooled connection, or on a new one when none is idle.
func (g *Generator) kept(ctx context.Context, takes time.Duration) exchange {
	for {
		c, x := g.sendKept(ctx, g.pool.take(), takes)
		switch {
		case x.nothing && c == nil:
			continue
		case c != nil && x.lastUse:
			c.Close()
		case c != nil:
			g.pool.put(c)
		}
		return x
	}
}

// sendKept makes one request on c, or on a new connection when c is nil, and returns that connection. When the server
// has closed c while it was idle, nothing is sent, so nothing is sent twice: it returns no connection and x.nothing.
func (g *Generator) sendKept(ctx context.Context, c *conn, takes time.Duration) (*conn, exchange) {
	idle := c != nil
	if !idle {
		var err error
		if c, err = open(ctx, g.dialer, false); err != nil {
			return nil, dialFailed(err)
		}
	}
	x := c.send(ctx, g.url(takes), false)
	if x.nothing && idle {
		g.tally.closedIdle()
		c.Close()
		return nil, x
	}
	x.nothing = false
	return c, x
}

// slow uses one kept-alive connection now and then until sending ends. When the server ends the connection with a
// response, a new one is opened at once and waits its turn: the pool stays full.
func (g *Generator) slow(ctx context.Context, gap func(first bool) time.Duration) {
	const takes = 20 * time.Millisecond
	var c *conn // opened at its first use: hundreds of handshakes at the same moment would be another test
	for wait := gap(true); g.pause(wait); wait = gap(false) {
		var x exchange
		g.tally.request(ctx, Slow, takes, func(ctx context.Context) exchange {
			if c, x = g.sendKept(ctx, c, takes); x.nothing {
				c, x = g.sendKept(ctx, nil, takes)
			}
			return x
		})
		if c != nil && x.lastUse {
			c.Close()
			c, _ = open(ctx, g.dialer, false)
		}
	}
	if c != nil {
		c.Close()
	}
}
