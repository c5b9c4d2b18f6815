package pod

import (
	"encoding/json"
	"fmt"
	"time"
)

// Kind says what happened.
type Kind string

// What can happen to a pod.
const (
	Started       Kind = "started"        // a container's process runs; Detail is its pid
	ImageMissing  Kind = "image_missing"  // neither Options.Images nor PATH has the program; retried like a pull
	StartFailed   Kind = "start_failed"   // the process could not be started
	Probed        Kind = "probe"          // a probe's result changed; Detail is kind, result and reason
	Unhealthy     Kind = "unhealthy"      // a probe failed
	Killing       Kind = "killing"        // kubelet begins to stop a container; Detail is the cause
	HookCalled    Kind = "hook_called"    // a preStop or postStart hook begins
	HookAnswered  Kind = "hook_answered"  // it ended; an HTTP status is in Detail and is ignored
	HookFailed    Kind = "hook_failed"    // it failed (FailedPreStopHook, FailedPostStartHook)
	HookAbandoned Kind = "hook_abandoned" // the grace period ended first; the request stays open
	Sigterm       Kind = "sigterm"
	Sigkill       Kind = "sigkill"
	Exited        Kind = "exited"       // Code is the exit code, 128 + n after signal n
	BackOff       Kind = "backoff"      // a restart waits; Detail says how long
	NotIsolated   Kind = "not_isolated" // ports are mapped instead; Detail says why
	PodReady      Kind = "pod_ready"
	PodNotReady   Kind = "pod_not_ready"
	Deleted       Kind = "deleted"  // somebody asked for the deletion
	T0            Kind = "t0"       // kubelet begins to terminate the pod; Detail is the cause
	Finished      Kind = "finished" // every container has stopped and kubelet is done
)

// Event is one entry of a pod's timeline.
type Event struct {
	Time      time.Time     // with a monotonic reading
	Elapsed   time.Duration // since Start
	Container string        // empty for the pod's own
	Kind      Kind
	Detail    string
	Code      int // of Exited
}

// MarshalJSON writes one object of the timeline, times in milliseconds.
func (e Event) MarshalJSON() ([]byte, error) {
	line := struct {
		Time      string  `json:"time"`
		ElapsedMS float64 `json:"elapsed_ms"`
		Container string  `json:"container,omitempty"`
		Event     Kind    `json:"event"`
		Detail    string  `json:"detail,omitempty"`
		Code      *int    `json:"code,omitempty"`
	}{e.Time.UTC().Format(time.RFC3339Nano), float64(e.Elapsed.Microseconds()) / 1000, e.Container, e.Kind, e.Detail, nil}
	if e.Kind == Exited {
		line.Code = new(e.Code)
	}
	return json.Marshal(line)
}

// String returns the entry for people to read.
func (e Event) String() string {
	text := fmt.Sprintf("%9.3fs  %-12s %-14s %s", e.Elapsed.Seconds(), e.Container, e.Kind, e.Detail)
	if e.Kind == Exited {
		text += fmt.Sprintf("code %d", e.Code)
	}
	return text
}

// record adds an event and wakes whoever waits for the pod's state.
func (p *Pod) record(container string, kind Kind, detail string) {
	p.add(Event{Container: container, Kind: kind, Detail: detail})
}

func (p *Pod) add(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addLocked(e)
}

func (p *Pod) addLocked(e Event) {
	e.Time = time.Now()
	e.Elapsed = e.Time.Sub(p.born)
	p.events = append(p.events, e)
	if p.options.OnEvent != nil {
		p.options.OnEvent(e)
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// Events returns the timeline so far.
func (p *Pod) Events() []Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Event(nil), p.events...)
}
