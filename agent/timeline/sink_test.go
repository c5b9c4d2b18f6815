package timeline_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

func numbered(n int) timeline.Line {
	return timeline.Line{Event: &timeline.Event{Time: t0, Level: timeline.LevelInfo, Seq: n, ElapsedMS: int64(n), To: "draining"}}
}

func verdictLine() timeline.Line { return timeline.Line{Verdict: clean().verdict} }

// slow takes a while for each write, as a log that is read slowly does.
type slow struct {
	bytes.Buffer
	each time.Duration
}

func (s *slow) Write(p []byte) (int, error) {
	time.Sleep(s.each)
	return s.Buffer.Write(p)
}

// seqs returns the numbers of the events in a log, the reasons of its warnings, and how many verdicts it has.
func seqs(t *testing.T, log io.Reader) (seen []int, warnings []string, verdicts int) {
	t.Helper()
	for line, err := range timeline.Decode(log) {
		switch {
		case err != nil:
			t.Fatal(err)
		case line.Verdict != nil:
			verdicts++
		case line.Event.Level == timeline.LevelWarn:
			warnings = append(warnings, line.Event.Reason)
		default:
			seen = append(seen, line.Event.Seq)
		}
	}
	return seen, warnings, verdicts
}

func TestFullQueueDropsOldestEventsNeverTheVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &slow{each: time.Millisecond}
		sink := timeline.NewSink(out, timeline.FormatJSON)
		sink.Put(numbered(1))
		synctest.Wait() // the first line is being written
		sink.Put(verdictLine())
		for n := 2; n <= 301; n++ {
			sink.Put(numbered(n))
		}
		if err := sink.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		seen, warnings, verdicts := seqs(t, &out.Buffer)
		if verdicts != 1 {
			t.Errorf("%d verdicts written, want 1", verdicts)
		}
		if len(seen) != 256 || seen[0] != 1 || seen[1] != 47 || seen[255] != 301 {
			t.Errorf("events written: %v; want 1 and 47 to 301", seen)
		}
		want := "45 events dropped (seq 2 to 46): the log was not read in time"
		if len(warnings) != 1 || warnings[0] != want {
			t.Errorf("warnings %q, want one: %q", warnings, want)
		}
	})
}

func TestFlushGivesTheVerdictWhatTimeIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &slow{each: time.Second}
		sink := timeline.NewSink(out, timeline.FormatJSON)
		for n := range 100 {
			sink.Put(numbered(n + 1))
		}
		sink.Put(verdictLine())
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := sink.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if seen, warnings, verdicts := seqs(t, &out.Buffer); verdicts != 1 || len(warnings) != 1 || len(seen) > 6 {
			t.Errorf("wrote events %v, warnings %q, %d verdicts; want at most 6 events, one warning, the verdict", seen, warnings, verdicts)
		}
	})
}

func TestPipeNobodyReadsHoldsNobody(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	sink := timeline.NewSink(w, timeline.FormatJSON)
	for n := range 2000 { // far more than a pipe's 64 KiB and the queue
		sink.Put(numbered(n + 1))
	}
	sink.Put(verdictLine())
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errors.New("no time left"))
	defer cancel()
	if err := sink.Flush(ctx); err == nil || !strings.Contains(err.Error(), "no time left") {
		t.Fatalf("flush to a pipe that nobody reads: %v, want its context's cause", err)
	}

	var wg sync.WaitGroup
	var verdicts int
	wg.Go(func() { _, _, verdicts = seqs(t, r) }) // somebody reads after all
	if err := sink.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	w.Close()
	wg.Wait()
	if verdicts != 1 {
		t.Errorf("%d verdicts read, want 1", verdicts)
	}
}

// flaky fails the writes that its function says, after having taken some bytes.
type flaky struct {
	bytes.Buffer
	fails func() bool
}

func (f *flaky) Write(p []byte) (int, error) {
	if f.fails() {
		n, _ := f.Buffer.Write(p[:10])
		return n, syscall.EPIPE
	}
	return f.Buffer.Write(p)
}

func TestRefusedLineIsReportedByTheNext(t *testing.T) {
	broken := true
	out := &flaky{fails: func() bool { return broken }}
	sink := timeline.NewSink(out, timeline.FormatJSON)
	for n := 1; n <= 2; n++ {
		sink.Put(numbered(n))
		if err := sink.Flush(t.Context()); !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("flush after a refused write: %v, want EPIPE", err)
		}
	}
	broken = false
	for n := 3; n <= 4; n++ {
		sink.Put(numbered(n))
		if err := sink.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	seen, warnings, _ := seqs(t, &out.Buffer)
	if len(seen) != 2 || seen[0] != 3 || len(warnings) != 1 || !strings.HasPrefix(warnings[0], "2 events dropped (seq 1 to 2)") {
		t.Errorf("events %v, warnings %q in %q; want 3 and 4 after one warning of 2 dropped", seen, warnings, out.String())
	}
}

const childVariable = "TIMELINE_TEST_CHILD"

// TestMain lets the test binary play the agent whose standard output is gone.
func TestMain(m *testing.M) {
	if how := os.Getenv(childVariable); how != "" {
		os.Exit(child(how))
	}
	os.Exit(m.Run())
}

// child waits until its standard output is closed, writes a verdict there and then says on its error output what came of it.
func child(how string) int {
	if how == "ignore" {
		signal.Ignore(syscall.SIGPIPE)
	}
	bufio.NewReader(os.Stdin).ReadString('\n')
	sink := timeline.NewSink(os.Stdout, timeline.FormatJSON)
	sink.Put(verdictLine())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := sink.Flush(ctx); errors.Is(err, syscall.EPIPE) {
		os.Stderr.WriteString("alive after EPIPE\n")
		return 0
	}
	return 1
}

func TestClosedStandardOutput(t *testing.T) {
	for how, want := range map[string]string{"ignore": "", "default": "signal: broken pipe"} {
		t.Run(how, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), childVariable+"="+how)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			stdin, _ := cmd.StdinPipe()
			stdout, _ := cmd.StdoutPipe()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			stdout.Close()
			io.WriteString(stdin, "go\n")
			got := ""
			if err := cmd.Wait(); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("exit %q, want %q; stderr %q", got, want, stderr.String())
			}
			if alive := strings.Contains(stderr.String(), "alive after EPIPE"); alive != (how == "ignore") {
				t.Errorf("alive after EPIPE: %v", alive)
			}
		})
	}
}

func TestPutCopiesTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &slow{each: time.Second}
		sink := timeline.NewSink(out, timeline.FormatJSON)
		v := *clean().verdict
		v.Cut = map[string]int64{"app": 1}
		sink.Put(timeline.Line{Verdict: &v})
		v.Cut["app"] = 2
		if err := sink.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !json.Valid(out.Bytes()) || !strings.Contains(out.String(), `"cut":{"app":1}`) {
			t.Errorf("written: %s", out.String())
		}
	})
}
