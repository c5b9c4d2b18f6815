package port

import (
	"net"
	"sync"
	"time"
)

// goAwayNotice is the first of the two GOAWAY frames of RFC 9113, section 6.8: no error, last stream 2^31-1.
// It asks the client to open no further stream on this connection and refuses none that is already on its way.
// net/http sends only the second one, which drops streams that cross it, and none at all on an idle connection.
var goAwayNotice = [...]byte{0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0}

const frameHeaderLen = 9

// conn is a served connection that can slip a GOAWAY notice in between two HTTP/2 frames.
type conn struct {
	net.Conn
	onClose func(*conn)

	reads int // bytes of the client preface seen, up to 3; touched by the reading goroutine under mu

	mu      sync.Mutex
	first   [3]byte // what the client said first: "PRI" is HTTP/2
	header  []byte  // of the frame that is being written, as far as it is known
	body    int     // bytes of that frame's payload still to be written
	pending bool    // a notice waits for the end of the frame
	noticed bool
	wrote   bool
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.reads < len(c.first) {
		c.mu.Lock()
		if c.reads == 0 {
			_ = c.Conn.SetReadDeadline(time.Now().Add(headerTime)) // a closed connection shows itself at the next read
		}
		c.reads += copy(c.first[c.reads:], b[:n])
		c.mu.Unlock()
	}
	return n, err
}

// SetReadDeadline takes a connection that has said nothing yet for an idle one. Net/http gives its first header ten seconds from the
// connection's start, and closed those that a proxy had opened ahead of need just when it used them.
func (c *conn) SetReadDeadline(t time.Time) error {
	if c.silent() && t.After(time.Now()) {
		t = time.Now().Add(idleTime)
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.http2() {
		return c.Conn.Write(b)
	}
	c.wrote = true
	done := 0
	for done < len(b) {
		n := len(b) - done
		if c.pending { // stop at the end of this frame, the notice goes next
			n = c.frameRest(b[done:])
		}
		m, err := c.Conn.Write(b[done : done+n])
		c.follow(b[done : done+m])
		done += m
		if err != nil {
			return done, err
		}
		c.flushNotice()
	}
	return done, nil
}

func (c *conn) Close() error {
	c.onClose(c)
	return c.Conn.Close()
}

// goAway sends the notice, once, as soon as the current frame is complete. It does nothing on HTTP/1.
func (c *conn) goAway() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.noticed || !c.http2() {
		return
	}
	c.noticed, c.pending = true, true
	if c.wrote { // else the server's SETTINGS must go first
		c.flushNotice()
	}
}

// silent reports whether the client has never sent a byte.
func (c *conn) silent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reads == 0
}

func (c *conn) http2() bool { return string(c.first[:]) == "PRI" }

func (c *conn) flushNotice() {
	if c.pending && c.body == 0 && len(c.header) == 0 {
		c.pending = false
		_, _ = c.Conn.Write(goAwayNotice[:]) // a broken connection shows itself at the next frame
	}
}

// frameRest returns how many bytes of b belong to the current frame.
func (c *conn) frameRest(b []byte) int {
	if c.body > 0 {
		return min(c.body, len(b))
	}
	return min(frameHeaderLen-len(c.header), len(b))
}

// follow keeps track of where frames end.
func (c *conn) follow(b []byte) {
	for len(b) > 0 {
		n := c.frameRest(b)
		if c.body > 0 {
			c.body -= n
		} else if c.header = append(c.header, b[:n]...); len(c.header) == frameHeaderLen {
			c.body = int(c.header[0])<<16 | int(c.header[1])<<8 | int(c.header[2])
		}
		if c.body == 0 && len(c.header) == frameHeaderLen {
			c.header = c.header[:0]
		} else if c.body == 0 && len(c.header) < frameHeaderLen {
			return // b ended inside a header
		}
		b = b[n:]
	}
}
