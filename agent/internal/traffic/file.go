package traffic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/fsnotify/fsnotify"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

const maxFile = 64 // bytes: a number, a newline and some blanks

// countFile reads a number from a file that the app writes.
//
// What was read stays valid while neither a change was announced nor the file's identity, size or time differs:
// events alone may be missed (NFS, FUSE, a symlink that points out of the directory), times alone have the kernel's
// tick and hide a second write within it.
type countFile struct {
	path    string
	changed chan struct{}
	dirty   atomic.Bool // an event came since the last read
	blind   atomic.Bool // nobody watches the directory: read each time

	last   os.FileInfo // of the read that gave count and err
	count  drain.Count
	err    error
	mu     sync.Mutex // guards the two below
	events *fsnotify.Watcher
	done   sync.WaitGroup
}

func fileKind(path string) (kind, error) {
	if !filepath.IsAbs(path) {
		return kind{}, fmt.Errorf("%q is no absolute path", path)
	}
	f := &countFile{path: filepath.Clean(path), changed: make(chan struct{}, 1)}
	f.blind.Store(true)
	return kind{read: f.read, open: f.open, close: f.close, changed: f.changed}, nil
}

func (f *countFile) read(context.Context) (drain.Count, error) {
	dirty := f.dirty.Swap(false)
	info, err := os.Stat(f.path)
	if err != nil {
		f.last = nil
		return drain.Count{}, err
	}
	if dirty || f.blind.Load() || !sameFile(f.last, info) {
		f.last = info
		f.count, f.err = readNumber(f.path, info)
	}
	return f.count, f.err
}

func sameFile(a, b os.FileInfo) bool {
	return a != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func readNumber(path string, info os.FileInfo) (drain.Count, error) {
	if !info.Mode().IsRegular() {
		return drain.Count{}, errors.New("is no regular file") // a pipe would block us
	}
	f, err := os.Open(path)
	if err != nil {
		return drain.Count{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return drain.Count{}, err
	}
	return parseFile(text)
}

// parseFile reads what the app must write: a whole number and a newline. Without the newline half a number might stand there.
func parseFile(text []byte) (drain.Count, error) {
	if len(text) > maxFile {
		return drain.Count{}, errTooLarge
	}
	if !bytes.HasSuffix(text, []byte("\n")) {
		return drain.Count{}, fmt.Errorf("%q is half written: want a number and a newline", text)
	}
	digits := bytes.TrimSpace(text)
	n, err := strconv.ParseUint(string(digits), 10, 53)
	if err != nil || digits[0] == '0' && len(digits) > 1 {
		return drain.Count{}, fmt.Errorf("%q is no number of requests", text)
	}
	return drain.Known(int64(n)), nil
}

// open watches the file's directory, not the file: a watch on the file is lost when another one is renamed over it,
// and an update of a ConfigMap shows only as a new ..data next to it.
func (f *countFile) open() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.events != nil {
		return nil
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.path, err)
	}
	if err := w.Add(filepath.Dir(f.path)); err != nil {
		return errors.Join(fmt.Errorf("watch %s: %w", f.path, err), w.Close())
	}
	f.events = w
	f.dirty.Store(true)
	f.blind.Store(false)
	f.done.Go(func() { f.follow(w) })
	return nil
}

// follow ends when the watcher is closed, or when the directory itself is gone and with it the watch.
func (f *countFile) follow(w *fsnotify.Watcher) {
	defer f.announce()
	defer f.blind.Store(true)
	dir := filepath.Dir(f.path)
	for {
		select {
		case e, ok := <-w.Events:
			if !ok || e.Name == dir && e.Has(fsnotify.Remove|fsnotify.Rename) {
				return
			}
		case _, ok := <-w.Errors: // the kernel's queue overflowed: anything may have changed
			if !ok {
				return
			}
		}
		f.announce()
	}
}

func (f *countFile) announce() {
	f.dirty.Store(true)
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *countFile) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.events == nil {
		return nil
	}
	err := f.events.Close()
	f.events = nil
	f.done.Wait()
	return err
}
