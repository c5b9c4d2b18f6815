package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
	"github.com/drain-agent/drain-agent/scripts/synced"
)

// vanished connects a client, lets it get as far as it shall, and takes it away without a word: from then on nothing reaches it and
// nothing comes from it, as if a firewall dropped all. Envoy's end stays open until the pod's end.
func vanished(from func(context.Context, *played, *leaving) error) func(context.Context, *played) error {
	return func(ctx context.Context, p *played) error {
		client := &leaving{}
		p.atEnd = append(p.atEnd, client.close)
		if err := from(ctx, p, client); err != nil {
			return err
		}
		return client.vanish()
	}
}

// leaving is a client with one connection.
type leaving struct {
	conn *net.TCPConn
	in   *bufio.Reader
}

func (l *leaving) dial(ctx context.Context, _, address string) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: -1} // it would speak
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	l.conn = conn.(*net.TCPConn) //nolint:forcetypeassert // what was dialled
	l.in = bufio.NewReader(conn)
	return conn, nil
}

func (l *leaving) say(ctx context.Context, p *played, text string) error {
	conn, err := l.dial(ctx, "tcp", p.address(demopod.Inbound))
	if err != nil {
		return err
	}
	_, err = io.WriteString(conn, text)
	return err
}

func (l *leaving) vanish() error {
	raw, err := l.conn.SyscallConn()
	if err != nil {
		return err
	}
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
	var attached error
	err = raw.Control(func(fd uintptr) {
		attached = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	})
	if err = cmp.Or(err, attached); err != nil {
		return fmt.Errorf("drop what comes to a client: %w", err)
	}
	return nil
}

func (l *leaving) close() error {
	if l.conn == nil {
		return nil
	}
	return l.conn.Close()
}

const shortWork = "/work?ms=1"

// How far clients get before they vanish.

func afterOneAnswer(ctx context.Context, p *played, l *leaving) error {
	if err := l.say(ctx, p, "GET "+shortWork+" HTTP/1.1\r\nHost: pod\r\n\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(l.in, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

func afterOneAnswerHTTP2(ctx context.Context, p *played, l *leaving) error {
	transport := &http.Transport{DialContext: l.dial, Protocols: &http.Protocols{}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address(demopod.Inbound)+shortWork, http.NoBody)
	if err != nil {
		return err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

func inHeader(ctx context.Context, p *played, l *leaving) error {
	return l.say(ctx, p, "GET "+shortWork+" HTTP/1.1\r\nHost: p")
}

func inRequest(ctx context.Context, p *played, l *leaving) error {
	if err := l.say(ctx, p, "POST /v1/process HTTP/1.1\r\nHost: pod\r\nContent-Length: 1000\r\n\r\n{"); err != nil {
		return err
	}
	return p.oneMore(ctx)
}

func beforeAnswer(ctx context.Context, p *played, l *leaving) error {
	if err := l.say(ctx, p, "GET /work?ms=8000 HTTP/1.1\r\nHost: pod\r\n\r\n"); err != nil {
		return err
	}
	return p.oneMore(ctx)
}

func inAnswer(ctx context.Context, p *played, l *leaving) error {
	if err := l.say(ctx, p, "GET /stream?ms=0&chunks=3000000 HTTP/1.1\r\nHost: pod\r\n\r\n"); err != nil {
		return err
	}
	if err := p.oneMore(ctx); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, l.in, 1<<10)
	return err
}

// oneMore waits until the app says that it has one request more than before.
func (p *played) oneMore(ctx context.Context) error {
	p.inFlight++
	return synced.Until(ctx, "the request to be in the app", func() bool {
		body, err := ask(ctx, http.MethodGet, "http://"+p.address(8090)+"/metrics")
		return err == nil && strings.Contains(body, "active_requests "+strconv.Itoa(p.inFlight)+"\n")
	})
}
