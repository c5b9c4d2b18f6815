package openloop

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// dialer opens connections to one target and counts them.
type dialer struct {
	target    string
	ownSource bool
	tls       *tls.Config
	timeout   time.Duration
	dials     atomic.Int64
}

// dial returns a connection that knows how many bytes were written to it.
//
// With ownSource every connection has a source address of its own. With a single one, loopback would reuse ports in
// TIME_WAIT sooner than connection tracking forgets them, and a SYN that meets such an entry is sent to the pod the
// old connection went to: failures that say nothing of the pod under test.
func (d *dialer) dial(ctx context.Context) (*countedConn, error) {
	nd := net.Dialer{Timeout: min(d.timeout, 5*time.Second), KeepAlive: -1}
	n := d.dials.Add(1)
	if d.ownSource {
		nd.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, byte(1+n>>16%250), byte(n>>8), byte(n))}
		nd.Control = lateBind
	}
	conn, err := nd.DialContext(ctx, "tcp", d.target)
	if err != nil {
		return nil, err
	}
	if d.tls != nil {
		secure := tls.Client(conn, d.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = secure
	}
	return &countedConn{Conn: conn}, nil
}

// lateBind lets connect choose the port: a bind to a wildcard port would search one address at a time.
func lateBind(_, _ string, c syscall.RawConn) error {
	const ipBindAddressNoPort = 24 // Linux
	var set error
	if err := c.Control(func(fd uintptr) {
		set = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, ipBindAddressNoPort, 1)
	}); err != nil {
		return err
	}
	return set
}

// countedConn tells a request that never left this process from one that the server may have seen.
type countedConn struct {
	net.Conn
	written atomic.Int64
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	return n, err
}
