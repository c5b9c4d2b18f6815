// Package freeport finds ports for programs that are told a number and bind it later.
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
	"strconv"
	"syscall"
)

const lowest, beyond = 10_000, 30_000

// Find returns n different TCP ports that were free on loopback a moment ago. It fails when none can be bound at all.
func Find(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for range 100 * (n + 1) {
		if len(ports) == n {
			return ports, nil
		}
		port := lowest + rand.IntN(beyond-lowest)
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
