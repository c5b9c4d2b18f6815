// Package rollout reads the logs of many agents and tells what a rollout did: one drain for each pod, numbers over all.
package rollout

import (
	"bufio"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

// Drain is one drain of one pod.
type Drain struct {
	Pod     string            `json:"pod"`
	Events  []timeline.Event  `json:"events"`
	Verdict *timeline.Verdict `json:"verdict"` // nil while it runs, or when the log ends before it
}

// Start is the moment of the first trigger; the zero time when nothing tells.
func (d *Drain) Start() time.Time {
	switch {
	case d.Verdict != nil:
		return d.Verdict.Time.Add(-time.Duration(d.Verdict.TotalMS) * time.Millisecond)
	case len(d.Events) > 0:
		e := d.Events[0]
		return e.Time.Add(-time.Duration(e.ElapsedMS) * time.Millisecond)
	}
	return time.Time{}
}

// Reader collects drains from logs of any number of pods, whose lines may be mixed, and which may be read at the same time.
type Reader struct {
	mu    sync.Mutex
	Line  func(pod string, line timeline.Line) // called with every line of ours, in the order of the log; may be nil
	Done  func(d *Drain)                       // called when a drain has its verdict; may be nil
	open  map[string]*Drain
	order []*Drain
}

// prefix is what kubectl logs --prefix writes before each line.
var prefix = regexp.MustCompile(`^\[pod/([^/\]]+)/[^\]]+\] `) // compiled once

// Read reads a log to its end. Lines without kubectl's prefix belong to the pod called name. The error is one of reading.
func (r *Reader) Read(name string, log io.Reader) error {
	in := bufio.NewReaderSize(log, 64<<10)
	for {
		line, err := in.ReadString('\n')
		pod := name
		if m := prefix.FindStringSubmatch(line); m != nil {
			pod = m[1]
		}
		for decoded, err := range timeline.Decode(strings.NewReader(line)) {
			if err != nil {
				return err
			}
			r.add(pod, decoded)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *Reader) add(pod string, line timeline.Line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Line != nil {
		r.Line(pod, line)
	}
	if r.open == nil {
		r.open = map[string]*Drain{}
	}
	d := r.open[pod]
	if e := line.Event; d == nil && e != nil && e.To == "serving" && e.Action == "" {
		return // of the agent's life before the trigger
	}
	again := d != nil && line.Event != nil && len(d.Events) > 0 && line.Event.ElapsedMS < d.Events[len(d.Events)-1].ElapsedMS
	if d == nil || again { // the clock began anew: the drain before it ended without a verdict
		d = &Drain{Pod: pod}
		r.open[pod] = d
		r.order = append(r.order, d)
	}
	if line.Event != nil {
		d.Events = append(d.Events, *line.Event)
		return
	}
	d.Verdict = line.Verdict
	delete(r.open, pod)
	if r.Done != nil {
		r.Done(d)
	}
}

// Drains returns what was read so far, in the order in which the drains began.
func (r *Reader) Drains() []*Drain {
	slices.SortStableFunc(r.order, func(a, b *Drain) int { return a.Start().Compare(b.Start()) })
	return r.order
}
