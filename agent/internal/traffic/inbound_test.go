package traffic

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

func checkSample(t *testing.T, when string, i *Inbound, conns, fresh int64) {
	t.Helper()
	got := i.Look(t.Context())
	want := InboundSample{Conns: drain.Known(conns), NewConns: drain.Known(fresh)}
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
		eventually(t, "two have left", func() bool { return in.Look(t.Context()).Conns == drain.Known(1) })
		checkSample(t, "two have left", in, 1, 2)
	})
}

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
