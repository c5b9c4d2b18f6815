package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// theLab is made once.
var theLab func() (*lab, error)

func TestMain(m *testing.M) {
	pod.Helper()
	os.Exit(inLab(m))
}

func inLab(m *testing.M) int {
	dir, err := os.MkdirTemp("", "np") // short: a Unix socket's path has 107 bytes
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	theLab = sync.OnceValues(func() (*lab, error) { return newLab(context.Background(), dir, "../..") })
	return m.Run()
}

// the is the lab of all tests here, and the manifest of a page, with the edits old, new, old, new, and injected.
func the(t *testing.T, page string, edits ...string) (ctx context.Context, l *lab, plain, ours string) {
	t.Helper()
	l, err := theLab() // takes minutes where nothing is compiled yet
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	if plain, err = manifestOf("../..", page); err != nil {
		t.Fatal(err)
	}
	plain = strings.NewReplacer(edits...).Replace(plain)
	if ours, err = l.inject(ctx, plain); err != nil {
		t.Fatal(err)
	}
	return ctx, l, plain, ours
}

// wants fails the test unless the stop ended so, having cut that.
func (r row) wants(t *testing.T, err error, outcome string, cut int, named string) {
	t.Helper()
	if errors.Is(err, errShared) {
		t.Skip(err)
	}
	if err != nil || r.Verdict == nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if r.Verdict.Outcome != outcome || r.Cut != cut || named == "" && len(r.Verdict.Cut) > 0 || named != "" && r.Verdict.Cut[named] != int64(cut) {
		t.Errorf("%s (%s), %d cut, %v named; want %s, %d", r.Verdict.Outcome, r.Verdict.Reason, r.Cut, r.Verdict.Cut, outcome, cut)
	}
}

// A FastAPI server on uvicorn, without a proxy: idle it is let go without waiting for a cap; token streams are held, and what never ends
// by itself is told to by the drain URL.
func TestModelServer(t *testing.T) {
	t.Parallel()
	ctx, l, _, ours := the(t, "inference.md")
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		r, err := l.serve(ctx, "idle", ours)
		r.wants(t, err, "clean", 0, "")
		if strings.Contains(r.Verdict.Reason, "quiet-max") {
			t.Error(r.Verdict.Reason)
		}
	})
	t.Run("streams", func(t *testing.T) {
		t.Parallel()
		r, err := l.serve(ctx, "streams", ours, "/v1/completions?seconds=8", "/v1/events")
		r.wants(t, err, "clean", 0, "")
		if counted := slices.ContainsFunc(r.Verdict.InFlightCurve, func(point [2]int64) bool { return point[1] > 0 }); !counted {
			t.Errorf("nobody counted a stream: %v", r.Verdict.InFlightCurve)
		}
	})
}

// A gRPC server without a proxy: streams are held by its gauge and its clients' connections.
func TestGRPCServer(t *testing.T) {
	t.Parallel()
	ctx, l, _, _ := the(t, "inference.md")
	ours, err := l.inject(ctx, grpcPod)
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.serve(ctx, "grpc", ours, "grpc:3", "grpc:8")
	r.wants(t, err, "clean", 0, "")
}

// A stream that the grace period does not hold is cut, and named by its class.
func TestStreamBeyondTheGracePeriod(t *testing.T) {
	t.Parallel()
	ctx, l, _, ours := the(t, "inference.md", "        drain-agent.io/longest-request: 2m\n", "", "GracePeriodSeconds: 150", "GracePeriodSeconds: 30",
		"        drain-agent.io/app-drain-url: http://127.0.0.1:8000/drain\n", "        drain-agent.io/drain-max: 3s\n")
	r, err := l.serve(ctx, "long", ours, "/v1/completions?seconds=90")
	r.wants(t, err, "deadline", 1, "app completion")
}

// A Celery worker with a real Redis: jobs under way end, and the pod goes with them before its grace period is over.
func TestWorker(t *testing.T) {
	t.Parallel()
	ctx, l, _, ours := the(t, "workers.md")
	r, err := l.work(ctx, "worker", ours, "celery", 20, 5, 2, 0)
	r.wants(t, err, "clean", 0, "")
}

// A worker that kubelet had to kill is a deadline.
func TestWorkerThatIsKilled(t *testing.T) {
	t.Parallel()
	ctx, l, _, ours := the(t, "workers.md", "GracePeriodSeconds: 90", "GracePeriodSeconds: 30")
	r, err := l.work(ctx, "killed", ours, "celery", 2, 90, 2, 0)
	r.wants(t, err, "deadline", 2, "")
}

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// The drainctl commands of the pages do what they are there for: the manifest of the page, in a folder of its own.
func TestCommandsOfThePages(t *testing.T) {
	for page, file := range map[string]string{"inference.md": "model.yaml", "workers.md": "worker.yaml"} {
		ctx, l, plain, _ := the(t, page)
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, file), []byte(plain), 0o600); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile("../../docs/how-to/" + page)
		if err != nil {
			t.Fatal(err)
		}
		ran := 0
		for _, block := range shellBlock.FindAllStringSubmatch(string(text), -1) {
			for line := range strings.Lines(block[1]) {
				words := strings.Fields(line)
				if words[0] != "drainctl" || words[1] == "timeline" {
					continue
				}
				cmd := exec.CommandContext(ctx, l.drainctl, words[1:]...)
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", strings.TrimSpace(line), err, out)
				}
				ran++
			}
		}
		written, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || ran < 3 || !strings.Contains(string(written), "--proxy=none") {
			t.Errorf("%s: %d commands, %v:\n%s", page, ran, err, written)
		}
	}
}

// The pages show the figures of the last run. go run ./scripts/noproxy writes both.
func TestPagesShowTheFigures(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("../..", figures))
	if err != nil {
		t.Fatal(err)
	}
	for page, pods := range pages {
		shown, err := os.ReadFile("../../docs/how-to/" + page)
		if want := table(string(text), pods); err != nil || !strings.Contains(string(shown), want) {
			t.Errorf("%s does not show %s (%v)", page, want, err)
		}
	}
}
