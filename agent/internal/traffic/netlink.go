package traffic

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Layout of include/uapi/linux/inet_diag.h.
const (
	getSocks       = 18 // TCPDIAG_GETSOCK
	requestSize    = 60 // struct inet_diag_req
	replySize      = 72 // struct inet_diag_msg
	attrBytecode   = 1  // INET_DIAG_REQ_BYTECODE
	opJump         = 1  // INET_DIAG_BC_JMP
	opPortAtLeast  = 2  // INET_DIAG_BC_S_GE
	opPortAtMost   = 3  // INET_DIAG_BC_S_LE
	portTestSize   = 16 // two comparisons of two words each
	portTestAndEnd = portTestSize + 4
	attrInfo       = 2   // INET_DIAG_INFO, a struct tcp_info (include/uapi/linux/tcp.h)
	dataSegsIn     = 152 // of its field tcpi_data_segs_in
)

// netlinkSockets calls each for every socket of the ports in one of the states.
//
// It asks in the older form, TCPDIAG_GETSOCK, because that one dumps both address families in a single walk over the
// kernel's table; the newer one needs a walk per family. The table is the whole node's, so the walk, not the reply, is
// what costs most for a pod with few connections. Ports and states are filtered in the kernel.
func netlinkSockets(ports []uint16, states uint32, data bool, each func(socket)) error {
	return rawDump(ports, states, data, func(s socket) {
		if wanted(s, ports, states) { // the kernel's filter is trusted only as far as it saves work
			each(s)
		}
	})
}

func rawDump(ports []uint16, states uint32, data bool, each func(socket)) error {
	req := nl.NewNetlinkRequest(getSocks, unix.NLM_F_DUMP)
	req.AddRawData(diagRequest(ports, states, data))
	var malformed error
	err := req.ExecuteIter(unix.NETLINK_SOCK_DIAG, 0, func(msg []byte) bool {
		if len(msg) < replySize {
			malformed = errors.New("short reply")
			return false
		}
		each(parseReply(msg))
		return true
	})
	return errors.Join(err, malformed)
}

// diagRequest is a struct inet_diag_req with the ports' filter behind it.
func diagRequest(ports []uint16, states uint32, data bool) []byte {
	b := make([]byte, requestSize, requestSize+4+len(ports)*portTestAndEnd)
	b[0] = unix.AF_INET
	if data {
		b[3] = 1 << (attrInfo - 1)
	}
	binary.NativeEndian.PutUint32(b[44:], ^uint32(0)) // no cookie
	binary.NativeEndian.PutUint32(b[48:], ^uint32(0))
	binary.NativeEndian.PutUint32(b[52:], states)
	code := portFilter(ports)
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(code)))
	b = binary.NativeEndian.AppendUint16(b, attrBytecode)
	return append(b, code...)
}

// portFilter is a program in the kernel's filter language that accepts the local ports: per port "at least" and
// "at most", then a jump to the end. Each instruction says how many bytes to go on when it holds and when not;
// landing exactly behind the last one accepts, going beyond it rejects.
func portFilter(ports []uint16) []byte {
	code := make([]byte, 0, len(ports)*portTestAndEnd)
	op := func(code []byte, what, yes uint8, no uint16) []byte {
		return binary.NativeEndian.AppendUint16(append(code, what, yes), no)
	}
	for i, port := range ports {
		rest := (len(ports) - 1 - i) * portTestAndEnd
		code = op(code, opPortAtLeast, 8, portTestAndEnd)
		code = op(code, 0, 0, port)
		code = op(code, opPortAtMost, 8, portTestAndEnd-8)
		code = op(code, 0, 0, port)
		if rest > 0 {
			code = op(code, opJump, 4, uint16(rest))
		}
	}
	return code
}

// parseReply reads a struct inet_diag_msg.
func parseReply(b []byte) socket {
	var s socket
	s.state = b[1]
	s.local.port = binary.BigEndian.Uint16(b[4:])
	s.remote.port = binary.BigEndian.Uint16(b[6:])
	if b[0] == unix.AF_INET {
		s.local.addr = mapped([4]byte(b[8:]))
		s.remote.addr = mapped([4]byte(b[24:]))
	} else {
		s.local.addr = [16]byte(b[8:])
		s.remote.addr = [16]byte(b[24:])
	}
	s.unsent = binary.NativeEndian.Uint32(b[60:]) // idiag_wqueue
	s.data = dataSegments(b[replySize:])
	return s
}

// dataSegments finds tcpi_data_segs_in among a reply's attributes: -1 where it was not asked for, and of a socket in TIME_WAIT.
func dataSegments(attrs []byte) int64 {
	for len(attrs) >= unix.SizeofNlAttr {
		size := int(binary.NativeEndian.Uint16(attrs))
		if size < unix.SizeofNlAttr || size > len(attrs) {
			break
		}
		if info := attrs[unix.SizeofNlAttr:size]; binary.NativeEndian.Uint16(attrs[2:]) == attrInfo && len(info) >= dataSegsIn+4 {
			return int64(binary.NativeEndian.Uint32(info[dataSegsIn:]))
		}
		attrs = attrs[min((size+3)&^3, len(attrs)):]
	}
	return -1
}

// mapped returns an IPv4 address as ::ffff:a.b.c.d.
func mapped(a [4]byte) [16]byte {
	return [16]byte{10: 0xff, 11: 0xff, 12: a[0], 13: a[1], 14: a[2], 15: a[3]}
}

// passing says whether netlink may answer the next time. Everything else (seccomp, no such protocol, no such module) is a refusal.
func passing(err error) bool {
	return errors.Is(err, nl.ErrDumpInterrupted) || slices.ContainsFunc(
		[]error{unix.EINTR, unix.EAGAIN, unix.EBUSY, unix.ENOBUFS, unix.ENOMEM, unix.EMFILE, unix.ENFILE},
		func(e error) bool { return errors.Is(err, e) })
}
