package freeport_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/scripts/freeport"
)

const many = 4000 // a fifth of all ports

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

// A program that is killed and started again finds its port free, whatever other tests look for one meanwhile.
func TestNobodyElseGetsThem(t *testing.T) {
	if os.Getenv("FREEPORT_CHILD") != "" {
		ports, err := freeport.Find(many / 10)
		fmt.Println("child:", ports, err)
		return
	}
	mine := map[string]bool{}
	for range many / 100 {
		ports, err := freeport.Find(100)
		if err != nil {
			t.Fatal(err)
		}
		for _, port := range ports {
			if mine[fmt.Sprint(port)] {
				t.Errorf("%d was returned twice", port)
			}
			mine[fmt.Sprint(port)] = true
		}
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=TestNobodyElseGetsThem")
	child.Env = append(os.Environ(), "FREEPORT_CHILD=1")
	out, err := child.Output()
	theirs, _, _ := strings.Cut(string(out), "]")
	_, theirs, found := strings.Cut(theirs, "[")
	if err != nil || !found {
		t.Fatalf("%v\n%s", err, out)
	}
	for port := range strings.FieldsSeq(theirs) {
		if mine[port] {
			t.Errorf("port %s was given to another process", port)
		}
	}
}
