package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
)

// HTTP/2 frames (RFC 9113, section 6), and the preface of a client's connection.
const (
	frameHeaders = 1
	frameGoaway  = 7
	frameHead    = 9
	prefaceBytes = 24
)

// tap relays one client's connections to the service and counts what passes, whatever the client says of itself.
type tap struct {
	listener net.Listener
	target   string
	relays   sync.WaitGroup

	mu   sync.Mutex
	seen wire
}

type wire struct {
	connections int
	told        int // connections on which a GOAWAY came
	streams     int // requests that the client began: one frame HEADERS each, for none has trailers
}

func listenTap(t *testing.T, target string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tap := &tap{listener: l, target: target}
	t.Cleanup(func() { l.Close() })
	tap.relays.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			tap.relays.Go(func() { tap.relay(client) })
		}
	})
	return tap
}

func (p *tap) addr() string { return p.listener.Addr().String() }

// close waits for the connections to end; their clients must be gone.
func (p *tap) close() wire {
	p.listener.Close()
	p.relays.Wait()
	return p.seen
}

func (p *tap) count(n *int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*n++
}

// relay copies both ways until one side ends, and then ends the other: half-open HTTP/2 connections are of no use.
func (p *tap) relay(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		client.Close()
		return
	}
	p.count(&p.seen.connections)
	tell := sync.OnceFunc(func() { p.count(&p.seen.told) })
	requests := &frames{skip: prefaceBytes, see: func(kind byte) {
		if kind == frameHeaders {
			p.count(&p.seen.streams)
		}
	}}
	answers := &frames{see: func(kind byte) {
		if kind == frameGoaway {
			tell()
		}
	}}
	var both sync.WaitGroup
	for _, way := range []struct {
		from, to net.Conn
		see      io.Writer
	}{{client, server, requests}, {server, client, answers}} {
		both.Go(func() {
			_, _ = io.Copy(io.MultiWriter(way.see, way.to), way.from)
			way.to.Close()
			way.from.Close()
		})
	}
	both.Wait()
}

// frames sees the kind of every HTTP/2 frame in what is written to it.
type frames struct {
	see  func(kind byte)
	skip int // bytes until the next head
	head []byte
}

func (f *frames) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if f.skip > 0 {
			passed := min(f.skip, len(p))
			f.skip, p = f.skip-passed, p[passed:]
			continue
		}
		part := min(frameHead-len(f.head), len(p))
		f.head, p = append(f.head, p[:part]...), p[part:]
		if len(f.head) == frameHead {
			f.see(f.head[3])
			f.skip, f.head = int(f.head[0])<<16|int(f.head[1])<<8|int(f.head[2]), f.head[:0]
		}
	}
	return n, nil
}
