package traffic

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// procSockets calls each for every socket of the ports in one of the states, as dir/tcp and dir/tcp6 list them.
// A kernel without IPv6 has no tcp6.
func procSockets(dir string, ports []uint16, states uint32, each func(socket)) error {
	for _, name := range []string{"tcp", "tcp6"} {
		f, err := os.Open(filepath.Join(dir, name))
		if name == "tcp6" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = parseProc(f, func(s socket) {
			if wanted(s, ports, states) {
				each(s)
			}
		})
		f.Close()
		if err != nil {
			return fmt.Errorf("read %s: %w", f.Name(), err)
		}
	}
	return nil
}

// parseProc reads a table in the form of /proc/net/tcp or /proc/net/tcp6. A line it does not understand is an error.
func parseProc(r io.Reader, each func(socket)) error {
	lines := bufio.NewScanner(r)
	if !lines.Scan() { // the heading
		return errors.Join(errors.New("the table is empty"), lines.Err())
	}
	for lines.Scan() {
		s, ok := parseProcLine(lines.Bytes())
		if !ok {
			return fmt.Errorf("%q is no line of a socket table", lines.Bytes())
		}
		each(s)
	}
	return lines.Err()
}

// parseProcLine reads "0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 …": number, local end, remote end, state, send queue and receive queue.
func parseProcLine(line []byte) (s socket, ok bool) {
	var field [5][]byte
	for i := range field {
		line = bytes.TrimLeft(line, " ")
		end := bytes.IndexByte(line, ' ')
		if end < 1 {
			return s, false
		}
		field[i], line = line[:end], line[end:]
	}
	var local, remote, state bool
	s.local, local = parseProcEnd(field[1])
	s.remote, remote = parseProcEnd(field[2])
	var b [1]byte
	if len(field[3]) == 2 {
		_, err := hex.Decode(b[:], field[3])
		state = err == nil
	}
	s.state, s.data = b[0], -1
	unsent, _, _ := bytes.Cut(field[4], []byte(":"))
	var queue [4]byte
	if len(unsent) != 8 {
		return s, false
	}
	_, err := hex.Decode(queue[:], unsent)
	s.unsent = binary.BigEndian.Uint32(queue[:])
	return s, local && remote && state && err == nil
}

// parseProcEnd reads ADDRESS:PORT in hexadecimal. The address is written as words in the machine's own byte order.
func parseProcEnd(text []byte) (e endpoint, ok bool) {
	addr, port, _ := bytes.Cut(text, []byte(":"))
	var raw [16]byte
	if len(addr) != 8 && len(addr) != 32 || len(port) != 4 {
		return e, false
	}
	if _, err := hex.Decode(raw[:], addr); err != nil {
		return e, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	if e.addr = raw; len(addr) == 8 {
		e.addr = mapped([4]byte(raw[:4]))
	}
	var p [2]byte
	_, err := hex.Decode(p[:], port)
	e.port = binary.BigEndian.Uint16(p[:])
	return e, err == nil
}
