package freeport_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/drain-agent/drain-agent/scripts/freeport"
)

func TestPortsDifferAndCanBeBound(t *testing.T) {
	ports, err := freeport.Find(50)
	if err != nil || len(ports) != 50 {
		t.Fatal(ports, err)
	}
	for _, port := range ports { // all at once: each can be bound only if it differs from those before it
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Error(err)
			continue
		}
		defer l.Close()
		if port >= 30_000 {
			t.Errorf("port %d may be handed out to a connection or a service", port)
		}
	}
}
