package timeline

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Formats of a log.
const (
	FormatJSON = "json"
	FormatText = "text"
)

// maxQueue is how many lines wait for a slow writer.
const maxQueue = 256

// Sink writes lines to a writer that may be slow, stuck or closed, without ever making its caller wait.
//
// Lines wait in a queue of 256 and are written by a goroutine that lives only while there is something to write.
// When the queue is full the oldest event is dropped, never a verdict before an event; a line of level warn in the
// place of the dropped ones says how many there were. A line that the writer refused is lost likewise.
//
// A closed standard output is not fatal to a Sink, but it is to a Go program: the runtime ends a process whose write
// to file descriptor 1 or 2 meets a broken pipe (os/signal, "SIGPIPE"). A main that gives os.Stdout to a Sink must
// call signal.Ignore(syscall.SIGPIPE) first; writes then fail with EPIPE, which [Sink.Flush] reports.
type Sink struct {
	w      io.Writer
	format string

	mu    sync.Mutex
	queue []queued
	lost  loss          // dropped, and not yet said
	said  loss          // said in the line that is being written
	idle  chan struct{} // closed when the goroutine ends; nil while none runs
	torn  bool          // the writer took half a line
	err   error         // of the latest write
}

// queued is a line as it will be written, and what is needed to report it if it will not.
type queued struct {
	bytes []byte
	event *Event // nil: a verdict
}

// loss is a run of dropped events.
type loss struct {
	n           int
	first, last Event
}

// NewSink returns a sink that writes to w in [FormatJSON] or [FormatText]; any other format is JSON.
func NewSink(w io.Writer, format string) *Sink { return &Sink{w: w, format: format} }

// Put queues a line and returns at once. It is safe for concurrent use.
func (s *Sink) Put(l Line) {
	q := queued{bytes: s.render(l), event: l.Event}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, q)
	if len(s.queue) > maxQueue {
		s.dropOldest()
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
		go s.writeAll(s.idle)
	}
}

// Flush waits until everything put so far has been written, or ctx ends, and returns the error of the latest write,
// or ctx's. Half-way to ctx's deadline it drops the events that still wait, so that the verdict gets what is left.
func (s *Sink) Flush(ctx context.Context) error {
	s.mu.Lock()
	idle := s.idle
	s.mu.Unlock()
	if idle == nil {
		return s.lastError()
	}
	var half <-chan time.Time
	if deadline, ok := ctx.Deadline(); ok {
		t := time.NewTimer(time.Until(deadline) / 2)
		defer t.Stop()
		half = t.C
	}
	for {
		select {
		case <-idle:
			return s.lastError()
		case <-half:
			s.dropEvents()
		case <-ctx.Done():
			return fmt.Errorf("flush the log: %w", context.Cause(ctx))
		}
	}
}

func (s *Sink) lastError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// writeAll writes until the queue is empty.
func (s *Sink) writeAll(idle chan struct{}) {
	defer close(idle)
	for {
		q, prefix, ok := s.next()
		if !ok {
			return
		}
		n, err := s.w.Write(append(prefix, q.bytes...))
		s.wrote(q, n, err)
	}
}

// next takes the next line off the queue; prefix is what must stand before it.
func (s *Sink) next() (q queued, prefix []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		s.idle = nil
		return queued{}, nil, false
	}
	q = s.queue[0]
	s.queue = slices.Delete(s.queue, 0, 1)
	if s.torn {
		prefix = append(prefix, '\n')
	}
	if s.lost.n > 0 {
		prefix = append(prefix, s.render(Line{Event: s.lost.event()})...)
	}
	s.said, s.lost = s.lost, loss{}
	return q, prefix, true
}

func (s *Sink) wrote(q queued, n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	if err == nil {
		s.torn = false
		return
	}
	s.torn = s.torn || n > 0
	s.lost = s.said.and(lossOf(q.event)).and(s.lost)
}

func (s *Sink) dropOldest() {
	i := max(0, slices.IndexFunc(s.queue, func(q queued) bool { return q.event != nil }))
	s.lost = s.lost.and(lossOf(s.queue[i].event))
	s.queue = slices.Delete(s.queue, i, i+1)
}

func (s *Sink) dropEvents() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = slices.DeleteFunc(s.queue, func(q queued) bool {
		s.lost = s.lost.and(lossOf(q.event))
		return q.event != nil
	})
}

// lossOf returns the loss of one event; e is nil for a verdict, whose loss no later line can make good.
func lossOf(e *Event) loss {
	if e == nil {
		return loss{}
	}
	return loss{n: 1, first: *e, last: *e}
}

// and returns both losses as one; l is the earlier.
func (l loss) and(later loss) loss {
	switch {
	case l.n == 0:
		return later
	case later.n == 0:
		return l
	}
	return loss{n: l.n + later.n, first: l.first, last: later.last}
}

// event stands in the log where the dropped events would have stood.
func (l loss) event() *Event {
	return &Event{
		Time: l.last.Time, Level: LevelWarn, Seq: l.last.Seq, ElapsedMS: l.last.ElapsedMS,
		From: l.last.To, To: l.last.To,
		Reason: fmt.Sprintf("%d events dropped (seq %d to %d): the log was not read in time", l.n, l.first.Seq, l.last.Seq),
	}
}

func (s *Sink) render(l Line) []byte {
	if s.format == FormatText {
		return append([]byte(l.Text()), '\n')
	}
	b, err := l.MarshalJSON()
	if err != nil { // cannot happen: every field is one that JSON can carry
		return nil
	}
	return append(b, '\n')
}
