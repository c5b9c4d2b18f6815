package balancer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// endpoint answers each line with its name.
func endpoint(t *testing.T, name string) string {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				lines := bufio.NewScanner(conn)
				for lines.Scan() {
					fmt.Fprintln(conn, name)
				}
				fmt.Fprintln(conn, "bye") // after the client closed its side
			}()
		}
	}()
	return l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func start(t *testing.T, lag Lag) *Balancer {
	t.Helper()
	b, err := Listen(t.Context(), "127.0.0.1:0", lag)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

type client struct {
	*net.TCPConn
	lines *bufio.Reader
}

func connect(t *testing.T, b *Balancer) client {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return client{conn.(*net.TCPConn), bufio.NewReader(conn)}
}

// ask returns who answers on the connection.
func (c client) ask(t *testing.T) string {
	t.Helper()
	if _, err := c.Write([]byte("who\n")); err != nil {
		t.Fatal(err)
	}
	name, err := c.lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return name[:len(name)-1]
}

func TestNewConnectionsAreSpread(t *testing.T) {
	b := start(t, KubeProxy())
	b.Add("a", endpoint(t, "a"))
	b.Add("b", endpoint(t, "b"))
	seen := map[string]int{}
	for range 60 {
		seen[connect(t, b).ask(t)]++
	}
	if seen["a"] < 10 || seen["b"] < 10 {
		t.Errorf("60 connections went to %v", seen)
	}
}

func TestRemovalTakesEffectAfterTheLagAndLeavesConnectionsAlone(t *testing.T) {
	lag := Lag{Min: 200 * time.Millisecond, Max: 300 * time.Millisecond}
	b := start(t, lag)
	b.Add("old", endpoint(t, "old"))
	kept := connect(t, b)
	if who := kept.ask(t); who != "old" {
		t.Fatal(who)
	}
	b.Add("new", endpoint(t, "new"))
	removed := time.Now()
	b.Remove("old")
	var last time.Duration
	for streak := 0; streak < 60; streak++ { // by chance once in 2^60 runs
		if connect(t, b).ask(t) == "old" {
			last, streak = time.Since(removed), 0
		}
	}
	if last == 0 {
		t.Error("no connection reached the endpoint within the lag")
	}
	if who := kept.ask(t); who != "old" {
		t.Errorf("the existing connection moved to %s", who)
	}
}

func TestTheEndOfOneDirectionIsPassedOn(t *testing.T) {
	b := start(t, KubeProxy())
	b.Add("a", endpoint(t, "a"))
	c := connect(t, b)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c.lines); string(rest) != "bye\n" || err != nil {
		t.Errorf("read %q, %v after closing our side", rest, err)
	}
}

func TestAResetIsPassedOnAsAReset(t *testing.T) {
	b := start(t, KubeProxy())
	l := listen(t)
	b.Add("a", l.Addr().String())
	c := connect(t, b)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	reset(conn.(*net.TCPConn))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
}

func TestAnEndpointThatRefusesIsSeenAsAReset(t *testing.T) {
	b := start(t, KubeProxy())
	l := listen(t)
	b.Add("a", l.Addr().String())
	l.Close()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", b.Addr())
	if err == nil { // else the reset came so fast that the dial itself saw it
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) || b.Refused() != 1 {
		t.Errorf("%v, refused %d: want a reset, 1", err, b.Refused())
	}
}

func TestCloseCutsEverything(t *testing.T) {
	b := start(t, KubeProxy())
	b.Add("a", endpoint(t, "a"))
	c := connect(t, b)
	c.ask(t)
	b.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
}
