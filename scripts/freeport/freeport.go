// Package freeport finds ports for programs that are told a number and bind it later, perhaps again and again.
//
// A port that the kernel hands out for ":0" is one of those that it also gives to outgoing connections: on a busy machine it is
// taken again before the program binds it. These lie below that range, and below the node ports of Kubernetes.
package freeport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const lowest, beyond = 10_000, 30_000

// Find returns n different TCP ports that were free on loopback a moment ago, and that no other call of this user's processes
// returns while the calling process lives. It fails when none can be bound at all.
func Find(n int) ([]int, error) {
	taken, err := reservations()
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	ports := make([]int, 0, n)
	for range 100 * (n + 1) {
		if len(ports) == n {
			return ports, nil
		}
		port := lowest + rand.IntN(beyond-lowest)
		if err := reserve(taken, port); errors.Is(err, unix.EAGAIN) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // only when all are found, so that they differ
		ports = append(ports, port)
	}
	return nil, fmt.Errorf("find %d free ports from %d to %d: nearly all are taken", n, lowest, beyond-1)
}

// reservations opens the file whose bytes stand for the ports. It stays open until the process ends, and its locks with it.
func reservations() (fd int, err error) {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("drain-agent-ports-%d", os.Getuid()))
	return unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
}

// reserve fails with EAGAIN when somebody holds the port.
func reserve(fd, port int) error {
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: int64(port), Len: 1})
}
