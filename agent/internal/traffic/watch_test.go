package traffic

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

func TestParseWatch(t *testing.T) {
	for _, spec := range []string{"app=port:8080", "proxy=file:/run/gone"} {
		w, err := ParseWatch(spec)
		if err != nil || w.Name()+"=" != spec[:len(w.Name())+1] {
			t.Errorf("ParseWatch(%q) = %v, %v", spec, w, err)
		}
	}
	for spec, want := range map[string]string{
		"":               "want NAME=",
		"port:8080":      "want NAME=",
		"=port:8080":     "want NAME=",
		"a b=port:8080":  "want NAME=",
		"app=port:":      "is no port",
		"app=port:70000": "is no port",
		"app=file:":      "no absolute path",
		"app=file:gone":  "no absolute path",
		"app=pid:1":      "unknown kind",
		"app=":           "unknown kind",
	} {
		if _, err := ParseWatch(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseWatch(%q) = %v, want an error with %q", spec, err, want)
		}
	}
}

func checkLook(t *testing.T, when string, w *Watch, want drain.Liveness) {
	t.Helper()
	if got, err := w.Look(t.Context()); got != want || err != nil {
		t.Errorf("%s: %v, %v, want %v", when, got, err, want)
	}
}

func TestWatchPort(t *testing.T) {
	eachWay(t, func(t *testing.T, newTable func([]uint16) table, s *server, dial net.Addr) {
		w := PortWatch("app", s.port)
		w.port.table = newTable([]uint16{s.port})
		checkLook(t, "it listens", w, drain.Up)

		own, err := net.Dial("tcp", dial.String())
		must(t, err)
		defer own.Close()
		defer (<-s.conns).Close()
		peer := startPeer(t, dial)
		c := <-s.conns
		checkLook(t, "it listens and has connections", w, drain.Up)

		s.Close()
		checkLook(t, "it stopped listening", w, drain.Leaving)
		peer.closeWrite()
		eventually(t, "the peer has finished sending", func() bool { return inState(t, s.port, 1<<stateCloseWait) == 1 })
		checkLook(t, "its peer waits for the answer", w, drain.Leaving)
		c.Close()
		checkLook(t, "nothing but our own connection is left", w, drain.Gone)
	})
}

// inState counts a port's sockets in some states, our own among them.
func inState(t *testing.T, port uint16, states uint32) int {
	t.Helper()
	table := newTable([]uint16{port})
	socks, err := table.dump(t.Context(), states)
	must(t, err)
	return len(socks)
}

func TestWatchPortUnseen(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := PortWatch("app", 1)
	if l, err := w.Look(ctx); l != drain.Unseen || err == nil {
		t.Errorf("a look that was called off: %v, %v", l, err)
	}
	w.port.table.via, w.port.table.proc = viaProc, t.TempDir()
	if l, err := w.Look(t.Context()); l != drain.Unseen || err == nil {
		t.Errorf("a look without a table: %v, %v", l, err)
	}
}

func TestWatchFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volume")
	w, err := ParseWatch("app=file:" + filepath.Join(dir, "gone"))
	must(t, err)
	if l, err := w.Look(t.Context()); l != drain.Unseen || err == nil {
		t.Errorf("the volume is not mounted: %v, %v", l, err)
	}
	must(t, os.Mkdir(dir, 0o700))
	checkLook(t, "no tombstone", w, drain.Up)
	write(t, filepath.Join(dir, "gone"), "")
	checkLook(t, "a tombstone", w, drain.Gone)
	must(t, os.Remove(filepath.Join(dir, "gone")))
	checkLook(t, "the tombstone was removed", w, drain.Up)
}
