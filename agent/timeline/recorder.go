package timeline

import (
	"strings"
	"sync"
)

// MaxEvents is how many events a [Recorder] remembers.
const MaxEvents = 256

// maxText bounds each text of a recorded event, in bytes: parts of it come from the network.
const maxText = 1024

// Recorder remembers the last [MaxEvents] events and hands every line to its sinks.
// It is safe for concurrent use. Make one with [NewRecorder].
type Recorder struct {
	sinks []func(Line)

	mu      sync.Mutex
	seq     int
	ring    [MaxEvents]Event
	verdict *Verdict
}

// NewRecorder returns a recorder that calls each sink with every line, in order, before Record or Conclude returns.
// A sink must not block and must not call the recorder; [Sink.Put] is such a function.
func NewRecorder(sinks ...func(Line)) *Recorder { return &Recorder{sinks: sinks} }

// Record numbers the event (its Seq is overwritten), remembers it and passes it on. Texts longer than 1 KiB are cut.
func (r *Recorder) Record(e Event) {
	for _, text := range []*string{&e.From, &e.To, &e.Reason, &e.ProxyRung, &e.AppSource, &e.Action, &e.Result} {
		*text = clip(*text, maxText)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	e.Seq = r.seq
	r.ring[(e.Seq-1)%MaxEvents] = e
	r.pass(Line{Event: &e})
}

// Conclude remembers the verdict of a drain and passes it on. A process may see several drains, one after another.
func (r *Recorder) Conclude(v Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.verdict = &v
	r.pass(Line{Verdict: &v})
}

func (r *Recorder) pass(l Line) {
	for _, sink := range r.sinks {
		sink(l)
	}
}

// Events returns the remembered events, oldest first, in a slice of its own.
func (r *Recorder) Events() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := make([]Event, 0, min(r.seq, MaxEvents))
	for i := max(0, r.seq-MaxEvents); i < r.seq; i++ {
		events = append(events, r.ring[i%MaxEvents])
	}
	return events
}

// Verdict returns the latest verdict, or nil before the first; it must not be changed.
func (r *Recorder) Verdict() *Verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.verdict
}

// clip cuts s to at most limit bytes, at a character's border.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:max(0, limit)], "")
}
