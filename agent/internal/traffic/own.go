package traffic

import (
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ownEnds returns the local ends of the TCP connections this process holds open.
// Where /proc/self/fd cannot be read it returns nothing, so that our own connections count too: too many, never too few.
func ownEnds() map[endpoint]bool {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	ends := make(map[endpoint]bool)
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if _, err := unix.Getpeername(fd); err != nil {
			continue // no socket, or one that is not connected
		}
		switch a, _ := unix.Getsockname(fd); a := a.(type) {
		case *unix.SockaddrInet4:
			ends[endpoint{addr: mapped(a.Addr), port: uint16(a.Port)}] = true
		case *unix.SockaddrInet6:
			ends[endpoint{addr: a.Addr, port: uint16(a.Port)}] = true
		}
	}
	return ends
}

// sameHost says whether a connection's other end may be a socket of this network namespace.
func (p pair) sameHost() bool {
	return p.remote.addr == p.local.addr || netip.AddrFrom16(p.remote.addr).Unmap().IsLoopback()
}
