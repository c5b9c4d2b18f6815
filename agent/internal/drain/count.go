package drain

// Count is a number that somebody read, or the statement that nobody could read it.
// Its zero value is unknown, so a forgotten field can never be taken for zero.
type Count struct {
	N     int64
	Known bool
}

// Known returns the count n, read just now.
func Known(n int64) Count { return Count{N: n, Known: true} }

// Liveness says what can be seen of a container's process from outside it.
type Liveness uint8

// What can be seen of a container's process.
const (
	Unseen  Liveness = iota // nobody can tell
	Up                      // it listens, or its process runs
	Leaving                 // its listener is closed but connections are still established: a graceful server that was told to stop
	Gone                    // no process; or no listener and no established connection
)

// String returns the name used in logs and in status replies.
func (l Liveness) String() string {
	return [...]string{"unseen", "up", "leaving", "gone"}[l]
}
