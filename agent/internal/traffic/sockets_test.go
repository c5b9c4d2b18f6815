package traffic

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// peer is another process of this network namespace with one connection to addr: our own connections do not count.
type peer struct{ in *os.File }

// beThePeer connects and does what its standard input says: w closes the sending half, anything else ends it.
func beThePeer(addr string) int {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer c.Close()
	fmt.Println("connected")
	for b := make([]byte, 1); ; {
		switch n, _ := os.Stdin.Read(b); {
		case n > 0 && b[0] == 'w':
			c.(*net.TCPConn).CloseWrite()
		case n > 0 && b[0] == 's':
			c.Write(b)
		default:
			return 0
		}
	}
}

func startPeer(t *testing.T, addr net.Addr) *peer {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), peerVariable+"="+addr.String())
	cmd.Stdin = r
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() { w.Close(); cmd.Wait() })
	said := make([]byte, 64)
	if n, err := out.Read(said); err != nil || string(said[:n]) != "connected\n" {
		t.Fatalf("peer: %s, %v", said[:n], err)
	}
	return &peer{w}
}

func (p *peer) closeWrite() { p.in.Write([]byte("w")) }
func (p *peer) say()        { p.in.Write([]byte("s")) }
func (p *peer) end()        { p.in.Close() }

// server listens on a port, keeps what it accepts and never reads.
type server struct {
	net.Listener
	port  uint16
	conns chan net.Conn
}

func listen(t testing.TB, network, addr string) *server {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatalf("this machine cannot listen on %s %s, which the test needs: %v", network, addr, err)
	}
	s := &server{Listener: ln, port: uint16(ln.Addr().(*net.TCPAddr).Port), conns: make(chan net.Conn, 1<<15)}
	var all []net.Conn // or the collector would close those that a test takes and drops
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all = append(all, c)
			s.conns <- c
		}
	})
	t.Cleanup(func() {
		ln.Close()
		accepting.Wait()
		for _, c := range all {
			c.Close()
		}
	})
	return s
}

// at returns the listener's port at a host.
func (s *server) at(host string) net.Addr {
	return &net.TCPAddr{IP: net.ParseIP(host), Port: int(s.port)}
}

// families are the ways a server can listen and be reached.
var families = []struct{ network, listen, dial string }{
	{"tcp4", "127.0.0.1:0", "127.0.0.1"},
	{"tcp4", "0.0.0.0:0", "127.0.0.1"},
	{"tcp6", "[::1]:0", "::1"},
	{"tcp6", "[::]:0", "::1"},
	{"tcp", "[::]:0", "127.0.0.1"}, // IPv4 peer of an IPv6 socket
}

// ways are the two readers of the socket table.
func ways() map[string]func([]uint16) table {
	return map[string]func([]uint16) table{
		viaNetlink: newTable,
		viaProc:    func(p []uint16) table { t := newTable(p); t.via = viaProc; return t },
	}
}

// eachWay runs a test per reader and per family.
func eachWay(t *testing.T, test func(t *testing.T, newTable func([]uint16) table, s *server, dial net.Addr)) {
	for name, newTable := range ways() {
		for _, f := range families {
			t.Run(fmt.Sprintf("%s %s %s", name, f.listen, f.dial), func(t *testing.T) {
				s := listen(t, f.network, f.listen)
				test(t, newTable, s, s.at(f.dial))
			})
		}
	}
}

func TestNetlinkAndProcAgree(t *testing.T) {
	var ports []uint16
	for _, f := range families {
		s := listen(t, f.network, f.listen)
		ports = append(ports, s.port)
		for range 5 {
			c, err := net.Dial("tcp", s.at(f.dial).String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		left, err := net.Dial("tcp", s.at(f.dial).String())
		if err != nil {
			t.Fatal(err)
		}
		left.Close()
		for range 6 {
			defer (<-s.conns).Close()
		}
	}
	all := uint32(listening | open | closing | closed)
	read := make(map[string][]socket)
	for via, newTable := range ways() {
		table := newTable(ports)
		socks, err := table.dump(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		if table.via != via {
			t.Fatalf("%s fell back to %s", via, table.via)
		}
		slices.SortFunc(socks, func(a, b socket) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		read[via] = socks
	}
	if !slices.Equal(read[viaNetlink], read[viaProc]) {
		t.Errorf("netlink %v\nproc    %v", read[viaNetlink], read[viaProc])
	}
	live := slices.DeleteFunc(read[viaNetlink], func(s socket) bool { return !s.in(listening | open) })
	if want := len(families) * (1 + 5 + 1); len(live) != want {
		t.Errorf("%d sockets, want %d: a listener, five connections and one in CLOSE_WAIT each", len(live), want)
	}
}

func TestPortsAndStatesAreFiltered(t *testing.T) {
	var servers []*server
	for range 4 {
		s := listen(t, "tcp4", "127.0.0.1:0")
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		defer (<-s.conns).Close()
		servers = append(servers, s)
	}
	for way, newTable := range ways() {
		for n := range 4 {
			var ports []uint16
			for _, s := range servers[:n+1] {
				ports = append(ports, s.port)
			}
			for states, perPort := range map[uint32]int{listening: 1, open: 1, listening | open: 2, closing: 0} {
				table := newTable(ports)
				socks, err := table.dump(t.Context(), states)
				if err != nil || len(socks) != perPort*len(ports) {
					t.Errorf("%s: states %b of %d ports: %v, %v", way, states, len(ports), socks, err)
				}
			}
		}
	}
}

// The kernel does the filtering: the program must be right on its own, without the check behind it.
func TestKernelFiltersThePorts(t *testing.T) {
	a, b := listen(t, "tcp4", "127.0.0.1:0"), listen(t, "tcp4", "127.0.0.1:0")
	listen(t, "tcp4", "127.0.0.1:0")
	var got []uint16
	if err := rawDump([]uint16{a.port, 1, b.port}, listening, false, func(s socket) { got = append(got, s.local.port) }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	want := []uint16{min(a.port, b.port), max(a.port, b.port)}
	if !slices.Equal(got, want) {
		t.Errorf("the kernel sent listeners of %v, want %v", got, want)
	}
}

func TestNetlinkRefused(t *testing.T) {
	for _, err := range []error{unix.EPERM, unix.EACCES, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.ENOENT, unix.EOPNOTSUPP} {
		if passing(fmt.Errorf("x: %w", err)) {
			t.Errorf("%v would never lead to /proc", err)
		}
	}
	for _, err := range []error{unix.EINTR, unix.ENOBUFS, unix.EMFILE, errors.Join(unix.EAGAIN, nil)} {
		if !passing(err) {
			t.Errorf("%v would give netlink up for ever", err)
		}
	}
}

func TestProcThatCannotBeRead(t *testing.T) {
	const line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n"
	const head = "  sl  local_address rem_address   st\n"
	for what, files := range map[string]map[string]string{
		"no tcp":          {"tcp6": head},
		"empty":           {"tcp": "", "tcp6": head},
		"cut off":         {"tcp": head + "   0: 0100007F:1F90 000000", "tcp6": head},
		"foreign":         {"tcp": head + line, "tcp6": head + "something else entirely is here\n"},
		"odd address":     {"tcp": head + "   0: 0100007F00:1F90 00000000:0000 0A \n", "tcp6": head},
		"hexadecimal not": {"tcp": head + "   0: 0100007G:1F90 00000000:0000 0A \n", "tcp6": head},
	} {
		table := newTable([]uint16{8080})
		table.via, table.proc = viaProc, t.TempDir()
		for name, text := range files {
			os.WriteFile(filepath.Join(table.proc, name), []byte(text), 0o600)
		}
		if socks, err := table.dump(t.Context(), listening); err == nil {
			t.Errorf("%s: read %v", what, socks)
		}
	}
	table := newTable([]uint16{8080})
	table.via, table.proc = viaProc, t.TempDir()
	os.WriteFile(filepath.Join(table.proc, "tcp"), []byte(head+line), 0o600)
	if socks, err := table.dump(t.Context(), listening); err != nil || len(socks) != 1 {
		t.Errorf("a kernel without IPv6: %v, %v", socks, err)
	}
}

func TestOwnEnds(t *testing.T) {
	for _, f := range families {
		s := listen(t, f.network, f.listen)
		c, err := net.Dial("tcp", s.at(f.dial).String())
		if err != nil {
			t.Fatal(err)
		}
		a := c.LocalAddr().(*net.TCPAddr)
		end := endpoint{addr: [16]byte(a.IP.To16()), port: uint16(a.Port)}
		if !ownEnds()[end] {
			t.Errorf("%v is not among our own ends", a)
		}
		c.Close()
		(<-s.conns).Close()
		if ownEnds()[end] {
			t.Errorf("%v is still among our own ends", a)
		}
	}
}
