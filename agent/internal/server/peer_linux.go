package server

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerOf asks the kernel who connected. It cannot be forged by the peer.
func peerOf(conn net.Conn) peer {
	if c, ok := conn.(*control); ok {
		conn = c.UnixConn
	}
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return peer{}
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return peer{}
	}
	var p peer
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			p = peer{uid: int(cred.Uid), known: true}
		}
	})
	return p
}
