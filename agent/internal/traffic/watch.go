package traffic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// Watch says whether a container is gone.
type Watch struct {
	name string
	file string // tombstone; empty: follow the port
	mu   sync.Mutex
	port *follower
}

// ParseWatch reads NAME=port:PORT, or NAME=file:PATH for a tombstone: the container is gone once that file exists.
// Who writes a tombstone has to remove it when the container starts, or a restarted container is taken for gone.
func ParseWatch(spec string) (*Watch, error) {
	name, rest, ok := strings.Cut(spec, "=")
	if !ok || !validName(name) {
		return nil, fmt.Errorf("watch %q: want NAME=port:PORT or NAME=file:PATH", spec)
	}
	switch how, what, _ := strings.Cut(rest, ":"); {
	case how == "port":
		port, err := parsePort(what)
		if err != nil {
			return nil, fmt.Errorf("watch %q: %w", spec, err)
		}
		return PortWatch(name, port), nil
	case how == "file" && filepath.IsAbs(what):
		return &Watch{name: name, file: filepath.Clean(what)}, nil
	case how == "file":
		return nil, fmt.Errorf("watch %q: %q is no absolute path", spec, what)
	default:
		return nil, fmt.Errorf("watch %q: unknown kind %q: want NAME=port:PORT or NAME=file:PATH", spec, how)
	}
}

// PortWatch watches the container that listens on a local port.
func PortWatch(name string, port uint16) *Watch {
	return &Watch{name: name, port: newFollower([]uint16{port}, open)}
}

// Name returns the container's name.
func (w *Watch) Name() string { return w.name }

// Port returns the port that is watched; 0 for a tombstone.
func (w *Watch) Port() uint16 {
	if w.port == nil {
		return 0
	}
	return w.port.table.ports[0]
}

// Via returns how sockets are read, "sock_diag" or "/proc/net/tcp"; it is empty for a tombstone.
func (w *Watch) Via() string {
	if w.port == nil {
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.port.table.via
}

// Look says what can be seen of the container now. For a port: a listener is Up, no listener but open connections is
// Leaving, neither is Gone. A port that nobody ever listened on looks Gone as well: the caller must know that the
// container was up. For a tombstone: Gone when it exists, else Up.
// When it cannot be seen the answer is Unseen and the error says why.
func (w *Watch) Look(ctx context.Context) (drain.Liveness, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	look := w.lookPort
	if w.port == nil {
		look = w.lookFile
	}
	l, err := look(ctx)
	if err != nil {
		return drain.Unseen, fmt.Errorf("watch %s: %w", w.name, err)
	}
	return l, nil
}

func (w *Watch) lookPort(ctx context.Context) (drain.Liveness, error) {
	up, err := w.port.listener(ctx)
	if err != nil {
		return drain.Unseen, err
	}
	if up {
		return drain.Up, nil
	}
	t, err := w.port.look(ctx)
	switch {
	case err != nil:
		return drain.Unseen, err
	case t.listening:
		return drain.Up, nil
	case t.open > 0:
		return drain.Leaving, nil
	}
	return drain.Gone, nil
}

func (w *Watch) lookFile(context.Context) (drain.Liveness, error) {
	_, err := os.Stat(w.file)
	if err == nil {
		return drain.Gone, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return drain.Unseen, err
	}
	if _, err := os.Stat(filepath.Dir(w.file)); err != nil { // a volume that is not mounted never shows a tombstone
		return drain.Unseen, err
	}
	return drain.Up, nil
}
