package traffic

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// endpoint is an address and a port. IPv4 is kept as ::ffff:a.b.c.d, so that it is equal to the IPv4 peer of an IPv6 socket.
type endpoint struct {
	addr [16]byte
	port uint16
}

// pair names a connection as seen from its local end.
type pair struct{ local, remote endpoint }

// socket is one TCP socket of this network namespace.
type socket struct {
	pair
	state  uint8
	unsent uint32 // bytes of the send queue that the peer has not acknowledged; 0 of a listener
	data   int64  // segments with data that the peer has sent; -1 where nobody tells: /proc, a table that does not ask
}

// TCP states as the kernel numbers them (include/net/tcp_states.h).
const (
	stateEstablished = 1
	stateFinWait1    = 4
	stateFinWait2    = 5
	stateTimeWait    = 6
	stateCloseWait   = 8
	stateLastAck     = 9
	stateListen      = 10
	stateClosing     = 11
)

// Sets of states, one bit each.
const (
	listening = 1 << stateListen
	open      = 1<<stateEstablished | 1<<stateCloseWait
	closing   = 1<<stateFinWait1 | 1<<stateFinWait2 | 1<<stateLastAck | 1<<stateClosing
	closed    = 1 << stateTimeWait
	sending   = open | closing // the kernel still sends what the queue holds

	finUnanswered = 1<<stateFinWait1 | 1<<stateLastAck | 1<<stateClosing
)

func (s socket) in(states uint32) bool { return states>>s.state&1 == 1 }

// Ways of reading the socket table.
const (
	viaNetlink = "sock_diag"
	viaProc    = "/proc/net/tcp"
)

// table reads the kernel's TCP sockets of some local ports: over netlink, or from /proc once netlink was refused.
type table struct {
	ports []uint16
	proc  string // directory with tcp and tcp6
	via   string // the way in use
	data  bool   // ask for what peers have sent too
	buf   []socket
}

func newTable(ports []uint16) table {
	return table{ports: ports, proc: "/proc/net", via: viaNetlink}
}

// dump returns the sockets of the ports in one of the states. The slice is good until the next call.
// An error means that nothing is known: what was read before it is thrown away.
func (t *table) dump(ctx context.Context, states uint32) ([]socket, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.buf = t.buf[:0]
	var refusal error
	if t.via == viaNetlink {
		err := netlinkSockets(t.ports, states, t.data, t.add)
		if err == nil {
			return t.buf, nil
		}
		if passing(err) {
			return nil, fmt.Errorf("dump sockets over netlink: %w", err)
		}
		t.via, t.buf, refusal = viaProc, t.buf[:0], err
	}
	if err := procSockets(t.proc, t.ports, states, t.add); err != nil {
		return nil, errors.Join(err, refusal)
	}
	return t.buf, nil
}

func (t *table) add(s socket) {
	if s.state == stateListen {
		s.unsent = 0 // netlink says its backlog here
	}
	t.buf = append(t.buf, s)
}

// wanted says whether s is one of the ports' sockets in one of the states.
func wanted(s socket, ports []uint16, states uint32) bool {
	return s.in(states) && slices.Contains(ports, s.local.port)
}
