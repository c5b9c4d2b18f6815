package traffic

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

func checkSample(t *testing.T, when string, i *Inbound, conns, fresh int64) {
	t.Helper()
	got := i.Look(t.Context())
	want := InboundSample{Conns: drain.Known(conns), NewConns: drain.Known(fresh), Bytes: drain.Known(0), Stalled: drain.Known(0)}
	if got != want {
		t.Errorf("%s: %+v, want %+v", when, got, want)
	}
}

func TestInbound(t *testing.T) {
	eachWay(t, func(t *testing.T, newTable func([]uint16) table, s *server, dial net.Addr) {
		other := listen(t, "tcp4", "127.0.0.1:0")
		startPeer(t, dial)
		<-s.conns
		in := NewInbound([]uint16{s.port, other.port})
		in.follow.table = newTable([]uint16{s.port, other.port})
		checkSample(t, "stock", in, 1, 0)

		second, third := startPeer(t, dial), startPeer(t, other.Addr())
		in.Look(t.Context())
		checkSample(t, "one more on each port", in, 3, 2)

		own, err := net.Dial("tcp", dial.String())
		must(t, err)
		defer own.Close()
		in.Look(t.Context())
		checkSample(t, "one of our own", in, 3, 2)

		second.end()
		third.end()
		(<-s.conns).Close()
		(<-other.conns).Close()
		eventually(t, "two have left, their FINs are acknowledged", func() bool {
			s := in.Look(t.Context())
			return s.Conns == drain.Known(1) && s.Bytes == drain.Known(0)
		})
		checkSample(t, "two have left", in, 1, 2)
	})
}

// TestBytesInSendQueues fills the send queue of a connection whose peer never reads, and closes it: the kernel still holds the bytes
// then, in FIN_WAIT1. A listener's backlog is no byte.
func TestBytesInSendQueues(t *testing.T) {
	eachWay(t, func(t *testing.T, newTable func([]uint16) table, s *server, dial net.Addr) {
		in := NewInbound([]uint16{s.port})
		in.follow.table = newTable([]uint16{s.port})
		startPeer(t, dial)
		c := (<-s.conns).(*net.TCPConn)
		checkSample(t, "nothing sent", in, 1, 0)
		must(t, c.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
		n, err := io.Copy(c, endless{})
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d bytes sent: %v", n, err)
		}
		full := in.Look(t.Context())
		if !full.Bytes.Known || full.Bytes.N < 1 || full.Bytes.N > n || full.Stalled != drain.Known(0) {
			t.Errorf("%d bytes sent to who does not read: %+v", n, full)
		}
		if others := NewInbound([]uint16{s.port + 1}).Look(t.Context()); others.Bytes != drain.Known(0) || others.Conns != drain.Known(0) {
			t.Errorf("the port beside it: %+v; a pod in the host's network shares its namespace with all of the node", others)
		}
		must(t, c.Close())
		closed := in.Look(t.Context()) // of what a closed window leaves, the kernel still moves some to the peer's own queue; FIN counts as one
		if closed.Conns != drain.Known(0) || closed.Bytes.N < 2 || closed.Bytes.N > full.Bytes.N+1 || closed.Stalled != drain.Known(0) {
			t.Errorf("closed: %+v, was %+v", closed, full)
		}
		eventually(t, fmt.Sprintf("nothing is taken for %v", drain.StallAfter), func() bool {
			for p, m := range in.follow.seen {
				m.moved = m.moved.Add(-drain.StallAfter)
				in.follow.seen[p] = m
			}
			s := in.Look(t.Context())
			return s.Bytes == drain.Known(0) && s.Stalled.N > 1 && s.Stalled.N <= closed.Bytes.N
		})
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestInboundUnknown(t *testing.T) {
	if s := NewInbound(nil).Look(t.Context()); s.Err == nil || s.Conns.Known || s.NewConns.Known {
		t.Errorf("no ports: %+v", s)
	}
	in := NewInbound([]uint16{1})
	in.follow.table.via, in.follow.table.proc = viaProc, t.TempDir()
	if s := in.Look(t.Context()); s.Err == nil || s.Conns.Known || s.NewConns.Known {
		t.Errorf("no table: %+v", s)
	}
}

// Two addresses of a namespace of its own stand for two machines: a connection between them does not look local.
// Those count at first sight, and even when they were over before it, as long as this side closed first.
func TestInboundFromAnotherMachine(t *testing.T) {
	if os.Getenv(namespaceVariable) != "ready" {
		t.Fatal("this machine allows no network namespace, which the test needs: run it as root, or allow user namespaces")
	}
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	for _, a := range []string{"10.9.9.1/32", "10.9.9.2/32"} {
		addr, err := netlink.ParseAddr(a)
		must(t, err)
		must(t, netlink.AddrReplace(lo, addr))
	}
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 9, 9, 2)}}
	s := listen(t, "tcp4", "10.9.9.1:0")
	for way, newTable := range ways() {
		t.Run(way, func(t *testing.T) {
			in := NewInbound([]uint16{s.port})
			in.follow.table = newTable([]uint16{s.port})
			in.follow.own = func() map[endpoint]bool { return nil } // both ends are ours here
			checkSample(t, "stock", in, 0, 0)
			c, err := from.Dial("tcp", s.Addr().String())
			must(t, err)
			served := <-s.conns
			checkSample(t, "first sight", in, 1, 1)
			served.Close()
			c.Close()
			for n := range int64(3) {
				c, err := from.Dial("tcp", s.Addr().String())
				must(t, err)
				(<-s.conns).Close()
				c.Close()
				checkSample(t, "over before the look", in, 0, 2+n)
			}
		})
	}
}

// Seccomp profiles that forbid netlink are real; this one is the smallest.
func TestSocketsWithNetlinkForbidden(t *testing.T) {
	if !alone(t) {
		return
	}
	must(t, forbidNetlink())
	s := listen(t, "tcp", "[::]:0")
	startPeer(t, s.at("127.0.0.1"))
	<-s.conns
	in := NewInbound([]uint16{s.port})
	checkSample(t, "first look", in, 1, 0)
	checkSample(t, "second look", in, 1, 0)
	w := PortWatch("app", s.port)
	checkLook(t, "it listens", w, drain.Up)
	if in.Via() != viaProc || w.Via() != viaProc {
		t.Errorf("read over %s and %s, though netlink is forbidden", in.Via(), w.Via())
	}
}

// forbidNetlink lets socket(AF_NETLINK) fail with EPERM in this process from now on.
func forbidNetlink() error {
	const allow, refuse = unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	unless := func(k uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: skip}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	program := []unix.SockFilter{
		load(0), unless(unix.SYS_SOCKET, 3), // struct seccomp_data: the call's number, then at 16 its arguments
		load(16), unless(unix.AF_NETLINK, 1), ret(refuse),
		ret(allow),
	}
	return seccomp(program)
}

func TestSocketSource(t *testing.T) {
	eachWay(t, func(t *testing.T, _ func([]uint16) table, s *server, dial net.Addr) {
		src := source(t, fmt.Sprintf("socket:%d", s.port))
		checkRead(t, src, 0, "")
		peer := startPeer(t, dial)
		c := <-s.conns
		own, err := net.Dial("tcp", dial.String())
		must(t, err)
		defer own.Close()
		checkRead(t, src, 1, "")
		s.Close()
		checkRead(t, src, 1, "")
		peer.end()
		c.Close()
		checkRead(t, src, 0, "")
		checkRead(t, source(t, fmt.Sprintf("socket:%d", s.port)), 0, "nothing listens")
	})
}

// TestDataFromClients: what clients send is counted in segments, a connection that was there before from then on; /proc does not tell it.
func TestDataFromClients(t *testing.T) {
	eachWay(t, func(t *testing.T, newTable func([]uint16) table, s *server, dial net.Addr) {
		first := startPeer(t, dial)
		conn := <-s.conns
		in := NewInbound([]uint16{s.port})
		in.follow.table = newTable([]uint16{s.port})
		if got := in.Look(t.Context()); got.Data.Known {
			t.Errorf("%v although nobody asked for it", got.Data)
		}
		in.CountData()
		in.Look(t.Context())
		told := in.Via() == viaNetlink
		heard := func(p *peer, c net.Conn) {
			t.Helper()
			p.say()
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		before := in.Look(t.Context()).Data
		heard(first, conn)
		heard(first, conn)
		if got := in.Look(t.Context()).Data; got.Known != told || told && got.N-before.N != 2 {
			t.Errorf("%v before, %v after two requests", before, got)
		}
		second := startPeer(t, dial)
		other := <-s.conns
		heard(second, other)
		in.Look(t.Context())
		if got := in.Look(t.Context()).Data; told && got.N-before.N != 3 {
			t.Errorf("%v before, %v after three requests on two connections", before, got)
		}
		first.end()
		second.end()
		conn.Close()
		other.Close()
		eventually(t, "nobody is left, and nothing is forgotten", func() bool {
			got := in.Look(t.Context())
			return got.Conns == drain.Known(0) && got.Data.Known && (!told || got.Data.N-before.N == 3)
		})
	})
}
