// Package rollout reads the logs of many agents and tells what a rollout did: one drain for each pod, numbers over all.
package rollout

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"io"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

// Drain is one drain of one pod.
type Drain struct {
	Pod       string            `json:"pod"`
	Namespace string            `json:"-"` // "": the log does not tell
	Events    []timeline.Event  `json:"events"`
	Verdict   *timeline.Verdict `json:"verdict"` // nil while it runs, or when the log ends before it
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

// Reader collects drains from logs of any number of pods, whose lines may be mixed, wrapped by collectors and, where nobody
// follows them, in any order, and which may be read at the same time.
type Reader struct {
	mu      sync.Mutex
	Line    func(pod string, line timeline.Line) // called with every line of ours, in the order of the log; may be nil
	Done    func(d *Drain)                       // called when a drain has its verdict; may be nil
	open    map[whose]*Drain
	order   []*Drain
	waiting map[whose][]timeline.Line // until everything is read
	passed  Passed
}

// whose tells the pods of one name in two namespaces from each other, where a log can.
type whose struct{ namespace, pod string }

// Passed counts the lines that gave nothing.
type Passed struct {
	Others int // of other programs
	Broken int // an agent's by their looks, and not to be read
}

// Read reads a log to its end. Lines that tell no pod belong to the pod called name. The error is one of reading.
func (r *Reader) Read(name string, log io.Reader) error {
	in := bufio.NewReaderSize(log, 64<<10)
	u := &unwrapper{name: name}
	defer func() {
		u.end()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.passed.Others, r.passed.Broken = r.passed.Others+u.others, r.passed.Broken+u.broken
	}()
	for {
		line, err := in.ReadString('\n')
		for _, one := range u.line(line) {
			known := false
			for decoded, err := range timeline.Decode(bytes.NewReader(one.text)) {
				if err != nil {
					return err
				}
				known = true
				r.take(one.whose, decoded)
			}
			if !known {
				u.broken++
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// take adds a line at once where somebody follows; else it waits for the others: logcli and search engines give the newest first.
func (r *Reader) take(pod whose, line timeline.Line) {
	if r.Line != nil || r.Done != nil {
		r.add(pod, line)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting == nil {
		r.waiting = map[whose][]timeline.Line{}
	}
	r.waiting[pod] = append(r.waiting[pod], line)
}

// settle adds the lines that waited. Those of a pod that go back in time at many steps, not just where a log begins anew, are
// put in the order of their time; of one moment by their number, the verdict last.
func (r *Reader) settle() {
	for _, pod := range slices.SortedFunc(maps.Keys(r.waiting), func(a, b whose) int { return cmp.Or(cmp.Compare(a.pod, b.pod), cmp.Compare(a.namespace, b.namespace)) }) {
		all, back := r.waiting[pod], 0
		for i := range all[1:] {
			if timeOf(all[i+1]).Before(timeOf(all[i])) {
				back++
			}
		}
		if back > len(all)/4 {
			slices.SortStableFunc(all, func(a, b timeline.Line) int {
				return cmp.Or(timeOf(a).Compare(timeOf(b)), cmp.Compare(number(a), number(b)))
			})
		}
		for _, line := range all {
			r.add(pod, line)
		}
	}
	r.waiting = nil
}

func timeOf(line timeline.Line) time.Time {
	if line.Verdict != nil {
		return line.Verdict.Time
	}
	return line.Event.Time
}

func number(line timeline.Line) int {
	if line.Verdict != nil {
		return math.MaxInt
	}
	return line.Event.Seq
}

// Passed returns what gave nothing so far.
func (r *Reader) Passed() Passed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.passed
}

func (r *Reader) add(pod whose, line timeline.Line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Line != nil {
		r.Line(pod.pod, line)
	}
	if r.open == nil {
		r.open = map[whose]*Drain{}
	}
	d := r.open[pod]
	if e := line.Event; d == nil && e != nil && e.To == "serving" && e.Action == "" {
		return // of the agent's life before the trigger
	}
	again := d != nil && line.Event != nil && len(d.Events) > 0 && line.Event.ElapsedMS < d.Events[len(d.Events)-1].ElapsedMS
	if d == nil || again { // the clock began anew: the drain before it ended without a verdict
		d = &Drain{Pod: pod.pod, Namespace: pod.namespace}
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
	r.settle()
	slices.SortStableFunc(r.order, func(a, b *Drain) int { return a.Start().Compare(b.Start()) })
	return r.order
}
