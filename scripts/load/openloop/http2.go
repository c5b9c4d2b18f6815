package openloop

import (
	"context"
	"sync"
	"time"
)

// shared is the HTTP/2 connections, used in turn. One that got a GOAWAY takes no new request and is replaced.
type shared struct {
	mu    sync.Mutex
	slots []slot
	next  int
}

type slot struct {
	mu sync.Mutex // held while its connection is opened, so that one slot opens one
	c  *conn
}

func newShared(n int) *shared { return &shared{slots: make([]slot, n)} }

// reserve returns a connection with room for one request promised to the caller.
func (s *shared) reserve(ctx context.Context, g *Generator) (*conn, error) {
	s.mu.Lock()
	slot := &s.slots[s.next%len(s.slots)]
	s.next++
	s.mu.Unlock()

	slot.mu.Lock()
	defer slot.mu.Unlock()
	if slot.c != nil {
		if slot.c.Reserve() == nil {
			return slot.c, nil
		}
		g.tally.left(slot.c)
	}
	c, err := open(ctx, g.dialer, true)
	if err != nil {
		slot.c = nil
		return nil, err
	}
	slot.c = c
	return c, c.Reserve()
}

func (s *shared) close() {
	for i := range s.slots {
		s.slots[i].mu.Lock()
		if c := s.slots[i].c; c != nil {
			c.Close()
		}
		s.slots[i].mu.Unlock()
	}
}

// left counts a connection that takes no more requests, and closes it unless some are under way: the last one does.
func (t *tally) left(c *conn) {
	if c.Err() != nil {
		t.closedIdle()
		return
	}
	t.told()
	if c.InFlight() == 0 {
		c.Close()
	}
}

// h2 makes one request on a shared HTTP/2 connection. A request that a GOAWAY left unprocessed counts as failed,
// though a client might send it again; one that was told to go before a byte was written goes elsewhere.
func (g *Generator) h2(ctx context.Context, takes time.Duration) (x exchange) {
	for range 3 {
		c, err := g.shared.reserve(ctx, g)
		if err != nil {
			return dialFailed(err)
		}
		if x = c.send(ctx, g.url(takes), false); !x.nothing {
			break
		}
	}
	x.lastUse = false // told by GOAWAY: counted when the connection is left
	return x
}
