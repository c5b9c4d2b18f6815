package envoy

import (
	"context"
	"time"
)

// job is a question that may take Envoy longer than whoever waits for a reading: it goes on in the background, with a limit of its own.
type job[T any] struct {
	done  chan struct{}
	value T
	err   error
	took  time.Duration
}

// start asks; ask must end with its context, or within [wholeCall] per call.
func start[T any](ask func(context.Context) (T, error)) *job[T] {
	j := &job[T]{done: make(chan struct{})}
	began := time.Now()
	go func() {
		defer close(j.done)
		j.value, j.err = ask(context.Background())
		j.took = time.Since(began)
	}()
	return j
}

// wait reports whether the answer came before ctx ended or patience was over; 0 is as long as ctx allows.
func (j *job[T]) wait(ctx context.Context, patience time.Duration) bool {
	select {
	case <-j.done:
		return true
	default:
	}
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	select {
	case <-j.done:
		return true
	case <-ctx.Done():
		return false
	}
}
