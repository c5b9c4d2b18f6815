package main

import (
	"os"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

func TestMain(m *testing.M) {
	pod.Helper()
	if err := os.Chdir("../.."); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// On simulated pods the targets are met, and a target nobody can meet is missed.
func TestOnPodsim(t *testing.T) {
	s := settings{on: "podsim", rto: 900 * time.Second, load: time.Second, replicas: 2}
	if code := run(t.Context(), s); code != 0 {
		t.Errorf("exit code %d, want the targets met", code)
	}
	s.rto = time.Millisecond
	if code := run(t.Context(), s); code != 1 {
		t.Errorf("exit code %d, want 1: no service is back within a millisecond", code)
	}
}
