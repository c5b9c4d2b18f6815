package main

import (
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// A helper that hangs up on kubelet has let the container go, too, and the first end counts.
func TestAHookThatFailsHasLetGo(t *testing.T) {
	began := time.Now()
	at := func(container string, kind pod.Kind, seconds int) pod.Event {
		return pod.Event{Container: container, Kind: kind, Time: began.Add(time.Duration(seconds) * time.Second)}
	}
	for name, row := range map[string]struct {
		events []pod.Event
		want   int // seconds; 0: not yet
	}{
		"answered":           {[]pod.Event{at("proxy", pod.HookCalled, 1), at("proxy", pod.HookAnswered, 20), at("proxy", pod.Exited, 21)}, 20},
		"hung up":            {[]pod.Event{at("proxy", pod.HookCalled, 1), at("proxy", pod.HookFailed, 21), at("proxy", pod.Sigterm, 21)}, 21},
		"given up, then end": {[]pod.Event{at("proxy", pod.HookAbandoned, 9), at("proxy", pod.HookFailed, 30)}, 9},
		"another container":  {[]pod.Event{at("manager", pod.HookAnswered, 5)}, 0},
		"still held":         {[]pod.Event{at("proxy", pod.HookCalled, 1)}, 0},
	} {
		got, ok := firstOf(row.events, "proxy", letGo())
		if ok != (row.want > 0) || ok && !got.Equal(began.Add(time.Duration(row.want)*time.Second)) {
			t.Errorf("%s: %v after, %v; want %d s", name, got.Sub(began), ok, row.want)
		}
	}
}
