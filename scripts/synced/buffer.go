// Package synced is for programs that watch others: a buffer that a process fills while others read it, and a wait for what holds sooner or later.
package synced

import (
	"bytes"
	"sync"
)

// Buffer keeps what is written to it. It may be used by several goroutines; its zero value is empty.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends to what is kept; it never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns all that was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
