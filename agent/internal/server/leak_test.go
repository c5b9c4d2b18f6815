package server

import (
	"context"
	"net/http"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/probes"
)

// Callers who hang up, callers who are answered, and a shutdown leave no goroutine of ours behind.
func TestNoGoroutineStays(t *testing.T) {
	f := newFakeAgent()
	registry, err := probes.New(probes.Config{Synthetic: []probes.Check{{Name: "x", Every: time.Millisecond, Run: func(context.Context) error { return nil }}}})
	if err != nil {
		t.Fatal(err)
	}
	s, url := start(t, f.agent(), Options{Probes: registry, Control: filepath.Join(t.TempDir(), "c")})
	ctx, hangUp := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for i := range 50 {
		callers.Go(func() {
			callCtx := ctx
			if i%2 == 0 {
				callCtx = t.Context()
			}
			req, _ := http.NewRequestWithContext(callCtx, http.MethodGet, url+"/prestop/app", nil)
			if res, err := freshClient().Do(req); err == nil {
				res.Body.Close()
			}
		})
	}
	f.waitForCalls(50)
	hangUp()
	close(f.release)
	callers.Wait()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	registry.Close()
	deadline := time.Now().Add(20 * time.Second)
	for ours := stacks(); ours != ""; ours = stacks() {
		if time.Now().After(deadline) {
			t.Fatalf("still running:\n%s", ours)
		}
		runtime.Gosched()
	}
}

// stacks returns the goroutines that run our code, this test's own excepted.
func stacks() string {
	var all strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&all, 2)
	var ours []string
	for one := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(one, "drain-agent/") && !strings.Contains(one, "testing.tRunner(") && !strings.Contains(one, "TestMain(") {
			ours = append(ours, one)
		}
	}
	return strings.Join(ours, "\n\n")
}
