package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A balancer is what kube-proxy is to a Service: each connection goes to the next replica; to another where nobody is there.
type balancer struct {
	listener net.Listener
	mu       sync.Mutex
	ports    []int
	next     int
}

func balance(t *testing.T) *balancer {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	b := &balancer{listener: l}
	go func() {
		for {
			caller, err := l.Accept()
			if err != nil {
				return
			}
			go b.serve(caller)
		}
	}()
	return b
}

func (b *balancer) port() int { return b.listener.Addr().(*net.TCPAddr).Port }

// to replaces the replicas.
func (b *balancer) to(replicas ...*running) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ports = nil
	for _, r := range replicas {
		b.ports = append(b.ports, r.port)
	}
}

func (b *balancer) serve(caller net.Conn) {
	defer caller.Close()
	replica, err := b.dial()
	if err != nil {
		return
	}
	defer replica.Close()
	go func() {
		_, _ = io.Copy(replica, caller) // whoever ends it ends both
		_ = replica.Close()
	}()
	_, _ = io.Copy(caller, replica)
}

func (b *balancer) dial() (conn net.Conn, err error) {
	b.mu.Lock()
	ports := append(b.ports[b.next%max(1, len(b.ports)):len(b.ports):len(b.ports)], b.ports[:b.next%max(1, len(b.ports))]...)
	b.next++
	b.mu.Unlock()
	err = errors.New("no replica")
	for _, port := range ports {
		if conn, err = new(net.Dialer).DialContext(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// Under load one replica is killed, then both at once, then the API server, which starts anew. Pods are made whenever there is an API
// server, and have their agent as soon as one replica is there: nothing needs a hand.
func TestReplicasAndAPIServerDie(t *testing.T) {
	s := emptyServer(t)
	install := readFile(t, "../drainctl/install.yaml")
	if err := s.apply(install); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.remove(t, install) })
	service := balance(t)
	s.route(t, service.port())
	one, two := s.replica(t, freePort(t)), s.replica(t, freePort(t))
	service.to(one, two)
	load := s.load(t, s.namespace(t, labelled, nil))
	eventually(t, "pods get their agent", load.agents)

	one.kill()
	eventually(t, "pods get their agent from the other replica", load.agents)
	two.kill()
	eventually(t, "pods start without", func() error {
		if load.agents() == nil {
			return errNotYet
		}
		return nil
	})
	one, two = s.replica(t, freePort(t)), s.replica(t, freePort(t))
	service.to(one, two)
	eventually(t, "pods get their agent again", load.agents)

	api := s.env.ControlPlane.GetAPIServer()
	kill(t, "kube-apiserver", "--secure-port="+api.Port) // told to end, it waits for minutes until its watches are over
	eventually(t, "no pod is made", func() error {
		if load.agents() == nil {
			return errNotYet
		}
		return nil
	})
	if err := api.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pods get their agent behind the new API server", load.agents)
	for _, r := range []*running{one, two} {
		if r.ended() {
			t.Error("a replica has ended with the API server")
		}
	}
	load.stop(t)
}

// kill ends a child of this process without a word.
func kill(t *testing.T, program, argument string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file) // it may be over
		arguments := strings.Split(string(text), "\x00")
		if filepath.Base(arguments[0]) != program || !slices.Contains(arguments, argument) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && status(t, pid, "PPid") == strconv.Itoa(os.Getpid()) {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no %s with %s runs", program, argument)
}
