package traffic

import (
	"context"
	"sync"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// follower remembers the connections of some local ports from one look to the next.
type follower struct {
	table  table
	states uint32
	own    func() map[endpoint]bool

	remoteOnly bool // connections from this network namespace do not count

	looks     uint64
	seen      map[pair]mark
	listeners map[uint16]uint64 // port to the look that last saw a listener there
	fresh     int64
	data      int64
}

// mark is what is known of a connection.
type mark struct {
	look uint64 // the last one that saw it
	role role
	open bool

	unsent uint32    // bytes of the send queue
	moved  time.Time // when they were seen to change
	data   int64     // segments that the peer had sent
}

type role uint8

const (
	counted role = iota
	doubted      // from this machine, seen once: may be a connection of our own that was closed meanwhile
	ignored      // our own, or an outgoing connection
)

func newFollower(ports []uint16, states uint32) *follower {
	return &follower{
		table: newTable(ports), states: states, own: ownEnds,
		seen: make(map[pair]mark), listeners: make(map[uint16]uint64),
	}
}

// tally is what one look found.
type tally struct {
	listening bool  // at least one of the ports has a listener
	open      int64 // connections open now
	fresh     int64 // connections that appeared since the first look, in all
	moving    int64 // bytes in the send queues of connections that took some within drain.StallAfter
	stalled   int64 // bytes in the other send queues

	data   int64 // segments with data that peers have sent since the first look, as far as their connections were there at a look
	untold bool  // of a connection that is open nobody tells it
}

// look dumps the sockets once. After an error nothing is forgotten: the next look compares with the last good one.
func (f *follower) look(ctx context.Context) (tally, error) {
	socks, err := f.table.dump(ctx, f.states|listening)
	if err != nil {
		return tally{}, err
	}
	return f.merge(socks), nil
}

// listener says whether one of the ports has a listener. It is much cheaper than look: the kernel goes over its
// listeners only.
func (f *follower) listener(ctx context.Context) (bool, error) {
	socks, err := f.table.dump(ctx, listening)
	if err != nil {
		return false, err
	}
	for _, s := range socks {
		f.listeners[s.local.port] = f.looks + 1
	}
	return len(socks) > 0, nil
}

// merge compares a dump with what the look before it saw.
func (f *follower) merge(socks []socket) tally {
	f.looks++
	var t tally
	for _, s := range socks {
		if s.state == stateListen {
			f.listeners[s.local.port] = f.looks
			t.listening = true
		}
	}
	own, now := sync.OnceValue(f.own), time.Now()
	for _, s := range socks {
		if s.state == stateListen {
			continue
		}
		m := f.judge(s, own)
		m.follow(f.seen[s.pair], s, now)
		t.untold = f.hear(&m, f.seen[s.pair], s) || t.untold
		f.seen[s.pair] = m
		t.add(m, s, now)
	}
	for p, m := range f.seen {
		if m.look != f.looks {
			delete(f.seen, p)
		}
	}
	t.fresh, t.data = f.fresh, f.data
	return t
}

// hear adds what a peer has sent since the look before, and reports whether nobody tells it.
func (f *follower) hear(m *mark, was mark, s socket) (untold bool) {
	if m.data = max(s.data, was.data); s.data < 0 {
		return m.role != ignored && m.open
	}
	if m.role != counted {
		return false
	}
	if was.role != counted || s.data < was.data { // all of it is news; the latter are the same two ports, used again
		m.data, was.data = s.data, 0
	}
	if f.looks > 1 {
		f.data += m.data - was.data
	}
	return false
}

// follow remembers when the send queue changed last. A FIN that nobody has acknowledged yet counts as one in the kernel's figure and
// is no byte of an answer.
func (m *mark) follow(was mark, s socket, now time.Time) {
	m.unsent, m.moved = s.unsent, was.moved
	if m.unsent > 0 && s.in(finUnanswered) {
		m.unsent--
	}
	if was.moved.IsZero() || was.unsent != m.unsent {
		m.moved = now
	}
}

func (t *tally) add(m mark, s socket, now time.Time) {
	if m.role == ignored {
		return
	}
	if m.open {
		t.open++
	}
	switch {
	case !s.in(sending):
	case now.Sub(m.moved) < drain.StallAfter:
		t.moving += int64(m.unsent)
	default:
		t.stalled += int64(m.unsent)
	}
}

// judge decides what a connection is, at its first sight and, where that was not enough, at its second.
func (f *follower) judge(s socket, own func() map[endpoint]bool) mark {
	was, known := f.seen[s.pair]
	now := mark{look: f.looks, role: was.role, open: s.in(open)}
	switch {
	case !known:
		now.role = f.first(s, own)
		if now.role == counted && f.looks > 1 {
			f.fresh++
		}
	case was.role == doubted:
		now.role = counted
		if !now.open || own()[s.remote] { // one that is over could have been ours: nobody can tell any more
			now.role = ignored
		} else {
			f.fresh++
		}
	case was.role == counted && now.open && !was.open: // the same two ports, used again
		f.fresh++
	}
	return now
}

// first judges a connection that was not there before.
func (f *follower) first(s socket, own func() map[endpoint]bool) role {
	switch {
	case f.looks > 1 && f.listeners[s.local.port]+1 < f.looks:
		return ignored
	case !s.sameHost():
		return counted
	case f.remoteOnly:
		return ignored
	case own()[s.remote]:
		return ignored
	case f.looks == 1:
		return counted
	}
	return doubted
}
