package traffic

import "testing"

// The merge of one look with the next, without a kernel. Remote ends are 10.0.0.n or, on this machine, 127.0.0.1.

const port = 8080

func conn(local uint16, remoteHost byte, remotePort uint16, state uint8) socket {
	return socket{state: state, pair: pair{
		local:  endpoint{mapped([4]byte{10, 9, 9, 9}), local},
		remote: endpoint{mapped([4]byte{10, 0, 0, remoteHost}), remotePort},
	}}
}

func loopback(remotePort uint16, state uint8) socket {
	here := mapped([4]byte{127, 0, 0, 1})
	return socket{state: state, pair: pair{endpoint{here, port}, endpoint{here, remotePort}}}
}

var listener = socket{state: stateListen, pair: pair{local: endpoint{port: port}}}

func TestMerge(t *testing.T) {
	type look struct {
		socks []socket
		want  tally
	}
	up := func(open, fresh int64) tally { return tally{listening: true, open: open, fresh: fresh} }
	a, b := conn(port, 1, 40000, stateEstablished), conn(port, 2, 40000, stateEstablished)
	for what, looks := range map[string][]look{
		"the first look takes stock": {
			{[]socket{listener, a, b}, up(2, 0)},
			{[]socket{listener, a, b}, up(2, 0)},
		},
		"a new connection counts once": {
			{[]socket{listener, a}, up(1, 0)},
			{[]socket{listener, a, b}, up(2, 1)},
			{[]socket{listener, b}, up(1, 1)},
			{[]socket{listener}, up(0, 1)},
		},
		"the same ports again are a new connection": {
			{[]socket{listener, a}, up(1, 0)},
			{[]socket{listener}, up(0, 0)},
			{[]socket{listener, a}, up(1, 1)},
		},
		"the same ports again while the old one waits": {
			{[]socket{listener, a}, up(1, 0)},
			{[]socket{listener, conn(port, 1, 40000, stateTimeWait)}, up(0, 0)},
			{[]socket{listener, a}, up(1, 1)},
		},
		"half closed by the peer is still open": {
			{[]socket{listener, a}, up(1, 0)},
			{[]socket{listener, conn(port, 1, 40000, stateCloseWait)}, up(1, 0)},
			{[]socket{listener, conn(port, 1, 40000, stateLastAck)}, up(0, 0)},
		},
		"closed by this side is not open": {
			{[]socket{listener, a}, up(1, 0)},
			{[]socket{listener, conn(port, 1, 40000, stateFinWait1)}, up(0, 0)},
			{[]socket{listener, conn(port, 1, 40000, stateFinWait2)}, up(0, 0)},
			{[]socket{listener, conn(port, 1, 40000, stateClosing)}, up(0, 0)},
		},
		"a connection that was over before the look": {
			{[]socket{listener}, up(0, 0)},
			{[]socket{listener, conn(port, 1, 40000, stateTimeWait)}, up(0, 1)},
			{[]socket{listener, conn(port, 1, 40000, stateTimeWait)}, up(0, 1)},
		},
		"one from this machine counts as new at its second sight": {
			{[]socket{listener}, up(0, 0)},
			{[]socket{listener, loopback(40000, stateEstablished)}, up(1, 0)},
			{[]socket{listener, loopback(40000, stateEstablished)}, up(1, 1)},
			{[]socket{listener, loopback(40000, stateEstablished)}, up(1, 1)},
		},
		"one from this machine that was over at its second sight": {
			{[]socket{listener}, up(0, 0)},
			{[]socket{listener, loopback(40000, stateEstablished)}, up(1, 0)},
			{[]socket{listener, loopback(40000, stateTimeWait)}, up(0, 0)},
		},
		"one from this machine that was over at once": {
			{[]socket{listener}, up(0, 0)},
			{[]socket{listener, loopback(40000, stateTimeWait)}, up(0, 0)},
			{[]socket{listener, loopback(40000, stateTimeWait)}, up(0, 0)},
		},
		"our own": {
			{[]socket{listener, loopback(50001, stateEstablished)}, up(0, 0)},
			{[]socket{listener, loopback(50001, stateEstablished), loopback(50002, stateEstablished)}, up(0, 0)},
			{[]socket{listener, loopback(50001, stateCloseWait), loopback(50002, stateEstablished)}, up(0, 0)},
		},
		"an outgoing connection that got the port after its listener closed": {
			{[]socket{listener, a}, up(1, 0)},
			{[]socket{a}, tally{open: 1}},
			{[]socket{a, b}, tally{open: 1}},
			{[]socket{b}, tally{}},
		},
		"accepted just before the listener closed": {
			{[]socket{listener}, up(0, 0)},
			{[]socket{a}, tally{open: 1, fresh: 1}},
		},
		"a listener of one port says nothing of another": {
			{[]socket{listener}, up(0, 0)},
			{[]socket{listener, conn(port+1, 1, 1, stateEstablished)}, up(0, 0)},
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFollower([]uint16{port, port + 1}, open|closing|closed)
			f.own = func() map[endpoint]bool {
				here := mapped([4]byte{127, 0, 0, 1})
				return map[endpoint]bool{{here, 50001}: true, {here, 50002}: true}
			}
			for i, l := range looks {
				if got := f.merge(l.socks); got != l.want {
					t.Errorf("look %d: %+v, want %+v", i+1, got, l.want)
				}
			}
		})
	}
}

// What is gone is forgotten: the memory follows the open connections, not the drain's history.
func TestMergeForgets(t *testing.T) {
	f := newFollower([]uint16{port}, open)
	for i := range uint16(1000) {
		f.merge([]socket{listener, conn(port, 1, i, stateEstablished)})
	}
	if len(f.seen) != 1 {
		t.Errorf("remembers %d connections, one is open", len(f.seen))
	}
}
