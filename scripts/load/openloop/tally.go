package openloop

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tally counts what became of the requests.
type tally struct {
	timeout time.Duration

	mu        sync.Mutex
	sent      int
	underWay  int
	abandoned int
	served    map[Client]int
	took      map[time.Duration][]float64 // milliseconds of served requests by the work asked for
	failures  []Failure
	idle      int // connections the server closed while nothing was under way
	toldToGo  int // connections the server asked us to leave
	latest    time.Duration
}

func newTally(timeout time.Duration) *tally {
	return &tally{timeout: timeout, served: map[Client]int{}, took: map[time.Duration][]float64{}}
}

// request runs one request within the timeout and counts what became of it.
func (t *tally) request(ctx context.Context, client Client, takes time.Duration, do func(context.Context) exchange) {
	t.mu.Lock()
	t.sent++
	t.underWay++
	t.mu.Unlock()
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	x := do(limited)

	t.mu.Lock()
	defer t.mu.Unlock()
	t.underWay--
	if x.lastUse && x.kind == "" {
		t.toldToGo++
	}
	switch {
	case x.kind == "":
		t.served[client]++
		t.took[takes] = append(t.took[takes], float64(time.Since(began).Microseconds())/1000)
	case ctx.Err() != nil:
		t.abandoned++
	default:
		t.failures = append(t.failures, Failure{
			At: began, AfterMS: time.Since(began).Milliseconds(), Client: client, WorkMS: takes.Milliseconds(),
			Reused: x.reused, Kind: x.kind, Detail: x.detail,
		})
	}
}

func (t *tally) closedIdle() { t.add(&t.idle) }
func (t *tally) told()       { t.add(&t.toldToGo) }

func (t *tally) add(n *int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*n++
}

func (t *tally) late(by time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.latest = max(t.latest, by)
}

// kindOf names a failure for people. Whatever it does not know it calls "other"; the detail says more.
func kindOf(err error) string {
	text := err.Error()
	var netErr net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return "timeout"
	case strings.Contains(text, "GOAWAY"):
		return "goaway"
	case strings.Contains(text, "stream error"):
		return "stream-reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		strings.Contains(text, "server closed idle connection"), strings.Contains(text, "client connection lost"):
		return "eof"
	default:
		return "other"
	}
}
