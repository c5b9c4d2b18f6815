package envoy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"github.com/drain-agent/drain-agent/agent/internal/neterr"
)

// Failure says in which way the admin interface failed; they mean different things for a drain.
type Failure string

// The ways an admin call fails.
const (
	Refused Failure = "refused" // nobody listens, or the socket file is missing: one half of the proof that Envoy is gone
	Timeout Failure = "timeout" // no complete answer in time: Envoy is slow or stopped, and may still hold requests
	Status  Failure = "status"  // answered with another status than asked for, such as 403, 404 or 500
	Garbage Failure = "garbage" // answered, but unparsable, cut short or too large
)

// Error is what every failed admin call returns.
type Error struct {
	Failure Failure
	Op      string // the call: "GET /clusters"
	Code    int    // the HTTP status when Failure is Status, otherwise 0
	Err     error
}

func (e *Error) Error() string { return fmt.Sprintf("envoy admin %s: %s: %v", e.Op, e.Failure, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// FailureOf returns the kind of an error of this package, "" for nil and for errors that are not about the admin interface.
func FailureOf(err error) Failure {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Failure
	}
	return ""
}

// failed turns what net/http or a parser returned into an Error.
func failed(op string, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Failure: kindOf(err), Op: op, Err: neterr.Plain(err)} // told once, whatever the filter of the question and our own port
}

func kindOf(err error) Failure {
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return Refused
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return Timeout
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return Timeout
	}
	return Garbage
}
