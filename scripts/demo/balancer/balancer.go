// Package balancer spreads TCP connections over endpoints as kube-proxy does for a Service: each new connection goes
// to an endpoint chosen at random and stays there; an endpoint's removal takes effect about a second after it was asked
// for, because kube-proxy writes its rules once a second; a connection that exists is never touched.
//
// One difference is left: kube-proxy rewrites packets and this is a relay. A dial that the endpoint refuses is
// seen by the client as a connection that is accepted and then reset.
package balancer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// Lag is between which times a removal takes effect.
type Lag struct{ Min, Max time.Duration }

// KubeProxy returns the lag of kube-proxy in its default configuration, measured on Kubernetes 1.34.
func KubeProxy() Lag { return Lag{Min: 900 * time.Millisecond, Max: 1100 * time.Millisecond} }

// Balancer is a listening balancer. Its methods may be called from any goroutine.
type Balancer struct {
	listener *net.TCPListener
	lag      Lag
	closed   context.CancelFunc
	work     sync.WaitGroup

	mu        sync.Mutex
	endpoints map[string]string // name to address
	refused   int
}

// Listen starts a balancer without endpoints at addr. It stops when ctx ends or with Close.
func Listen(ctx context.Context, addr string, lag Lag) (*Balancer, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("start the balancer: %w", err)
	}
	listener, ok := l.(*net.TCPListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("start the balancer at %s: not a TCP address", addr)
	}
	b := &Balancer{listener: listener, lag: lag, endpoints: map[string]string{}}
	ctx, b.closed = context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { listener.Close() })
	b.work.Go(func() { b.accept(ctx) })
	return b, nil
}

// Addr returns where the balancer listens.
func (b *Balancer) Addr() string { return b.listener.Addr().String() }

// Add sends connections to addr too, at once.
func (b *Balancer) Add(name, addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endpoints[name] = addr
}

// Remove sends no new connection to the endpoint once the lag is over. It returns at once.
func (b *Balancer) Remove(name string) {
	time.AfterFunc(b.lag.Min+rand.N(max(b.lag.Max-b.lag.Min, 1)), func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.endpoints, name)
	})
}

// Refused returns how many new connections no endpoint took.
func (b *Balancer) Refused() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}

// Close cuts all connections and waits for the end.
func (b *Balancer) Close() {
	b.closed()
	b.work.Wait()
}

func (b *Balancer) accept(ctx context.Context) {
	for {
		client, err := b.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // the client has gone, or a limit of this machine was met
			continue
		}
		b.work.Go(func() { b.serve(ctx, client) })
	}
}

// serve connects the client to a random endpoint and relays until both sides have ended.
func (b *Balancer) serve(ctx context.Context, client *net.TCPConn) {
	endpoint, err := b.dial(ctx)
	if err != nil {
		b.mu.Lock()
		b.refused++
		b.mu.Unlock()
		reset(client)
		return
	}
	stop := context.AfterFunc(ctx, func() { reset(client); reset(endpoint) })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { pass(client, endpoint) })
	both.Go(func() { pass(endpoint, client) })
	both.Wait()
	client.Close()
	endpoint.Close()
}

func (b *Balancer) dial(ctx context.Context) (*net.TCPConn, error) {
	b.mu.Lock()
	addrs := slices.Collect(maps.Values(b.endpoints))
	b.mu.Unlock()
	if len(addrs) == 0 {
		return nil, errors.New("no endpoints")
	}
	dialer := net.Dialer{Timeout: 5 * time.Second, KeepAlive: -1}
	conn, err := dialer.DialContext(ctx, "tcp", addrs[rand.IntN(len(addrs))])
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// pass copies until from ends. The end of one direction is passed on as such, anything worse as a reset of both sides.
func pass(from, to *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil || to.CloseWrite() != nil {
		reset(from)
		reset(to)
	}
}

func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0) // it fails only when the connection is closed already
	conn.Close()
}
