package probes

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// toggle is a check's function whose result a test sets.
type toggle struct {
	err  atomic.Pointer[error]
	runs atomic.Int64
}

func (c *toggle) fail(reason string) { c.err.Store(new(errors.New(reason))) }
func (c *toggle) pass()              { c.err.Store(nil) }

func (c *toggle) run(context.Context) error {
	c.runs.Add(1)
	if err := c.err.Load(); err != nil {
		return *err
	}
	return nil
}

func registry(t *testing.T, cfg Config) *Registry {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func wantReport(t *testing.T, got Report, ok bool, lines ...string) {
	t.Helper()
	if want := strings.Join(lines, "\n") + "\n"; got.OK != ok || got.String() != want {
		t.Errorf("%s: OK %v\n%swant OK %v\n%s", got.Question, got.OK, got, ok, want)
	}
}

func TestAQuestionWithoutChecksIsAnsweredYes(t *testing.T) {
	r := registry(t, Config{})
	for _, q := range Questions() {
		if !r.Ask(t.Context(), q).OK {
			t.Errorf("%s fails", q)
		}
	}
}

func TestPoliciesOfAFailingCheck(t *testing.T) {
	var required, degraded, shared toggle
	r := registry(t, Config{Readiness: []Check{
		{Name: "disk", Run: required.run},
		{Name: "cache", Run: degraded.run, Policy: Degraded},
		{Name: "database", Run: shared.run, Policy: Shared},
	}})

	degraded.fail("cold")
	shared.fail("refused")
	wantReport(t, r.Ask(t.Context(), Readiness), false,
		"[+]owner ok", "[+]disk ok", "[~]cache degraded: cold", "[-]database failed: refused")

	shared.pass()
	wantReport(t, r.Ask(t.Context(), Readiness), true,
		"[+]owner ok", "[+]disk ok", "[~]cache degraded: cold", "[+]database ok")

	shared.fail("refused") // for all replicas at once: this one stays in
	wantReport(t, r.Ask(t.Context(), Readiness), true,
		"[+]owner ok", "[+]disk ok", "[~]cache degraded: cold", "[~]database degraded: refused")

	required.fail("full")
	wantReport(t, r.Ask(t.Context(), Readiness), false,
		"[+]owner ok", "[-]disk failed: full", "[~]cache degraded: cold", "[~]database degraded: refused")

	one, ok := r.AskOne(t.Context(), Readiness, "cache")
	if !ok || one.OK {
		t.Errorf("cache alone: found %v, OK %v; want its own failure", ok, one.OK)
	}
	if _, ok := r.AskOne(t.Context(), Readiness, "nobody"); ok {
		t.Error("found a check that does not exist")
	}
}

func TestTheOwnerFailsReadinessAndNothingElse(t *testing.T) {
	r := registry(t, Config{})
	r.FailReadiness("draining")
	wantReport(t, r.Ask(t.Context(), Readiness), false, "[-]owner failed: draining")
	for _, q := range []Question{Startup, Liveness, Synthetic} {
		if !r.Ask(t.Context(), q).OK {
			t.Errorf("%s fails because the process is draining", q)
		}
	}
	r.RestoreReadiness()
	wantReport(t, r.Ask(t.Context(), Readiness), true, "[+]owner ok")
}

func TestStartupGatesReadinessAndStaysPassed(t *testing.T) {
	var migrated, proxy toggle
	migrated.fail("3 of 5")
	proxy.fail("refused")
	r := registry(t, Config{Startup: []Check{
		{Name: "migrations", Run: migrated.run},
		{Name: "proxy", Run: proxy.run, Policy: Degraded},
	}})
	wantReport(t, r.Ask(t.Context(), Readiness), false, "[+]owner ok", "[-]startup failed: startup checks have not passed yet")
	migrated.pass()
	wantReport(t, r.Ask(t.Context(), Startup), true, "[+]migrations ok", "[~]proxy degraded: refused")
	migrated.fail("later")
	runs := migrated.runs.Load()
	wantReport(t, r.Ask(t.Context(), Startup), true, "[+]migrations ok", "[~]proxy degraded: refused")
	wantReport(t, r.Ask(t.Context(), Readiness), true, "[+]owner ok")
	if migrated.runs.Load() != runs {
		t.Error("a passed startup check was run again")
	}
}

func TestAHangingCheckFailsInTimeAndIsNotStartedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		release := make(chan struct{})
		r := registry(t, Config{Liveness: []Check{{Name: "loop", Timeout: 300 * time.Millisecond, Run: func(context.Context) error {
			runs.Add(1)
			<-release // deaf to its context
			return nil
		}}}})
		begin := time.Now()
		wantReport(t, r.Ask(t.Context(), Liveness), false, "[-]loop failed: no answer within 300ms")
		wantReport(t, r.Ask(t.Context(), Liveness), false, "[-]loop failed: no answer within 300ms")
		if took := time.Since(begin); took != 300*time.Millisecond {
			t.Errorf("two questions took %v, want 300ms: the second one joins a run that is already late", took)
		}
		if runs.Load() != 1 {
			t.Errorf("%d runs of a check that hangs, want 1", runs.Load())
		}
		close(release)
		synctest.Wait()
		wantReport(t, r.Ask(t.Context(), Liveness), true, "[+]loop ok")
	})
}

func TestALateResultDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := func(ctx context.Context) error { <-ctx.Done(); time.Sleep(time.Millisecond); return nil }
		obedient := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		r := registry(t, Config{Startup: []Check{{Name: "late", Run: late}, {Name: "obedient", Run: obedient}}})
		for range 2 {
			wantReport(t, r.Ask(t.Context(), Startup), false,
				"[-]late failed: no answer within 800ms", "[-]obedient failed: no answer within 800ms")
			time.Sleep(time.Second)
		}
	})
}

func TestQuestionsAtTheSameTimeShareARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		r := registry(t, Config{Readiness: []Check{{Name: "slow", Run: func(context.Context) error {
			runs.Add(1)
			time.Sleep(100 * time.Millisecond)
			return nil
		}}}})
		var asked sync.WaitGroup
		for range 50 {
			asked.Go(func() {
				if !r.Ask(t.Context(), Readiness).OK {
					t.Error("not ready")
				}
			})
		}
		asked.Wait()
		if runs.Load() != 1 {
			t.Errorf("50 questions made %d runs, want 1", runs.Load())
		}
	})
}

func TestTheAskerLeavingDoesNotFailTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := registry(t, Config{Readiness: []Check{{Name: "slow", Run: func(ctx context.Context) error {
			select {
			case <-time.After(100 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}}})
		ctx, leave := context.WithCancel(t.Context())
		first := make(chan Report)
		go func() { first <- r.Ask(ctx, Readiness) }()
		synctest.Wait()
		leave()
		if (<-first).OK {
			t.Error("whoever left got a yes")
		}
		wantReport(t, r.Ask(t.Context(), Readiness), true, "[+]owner ok", "[+]slow ok")
	})
}

func TestABackgroundCheckIsAnsweredFromItsLastResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c toggle
		r := registry(t, Config{Synthetic: []Check{{Name: "payment", Every: 10 * time.Second, Timeout: 3 * time.Second, Run: func(ctx context.Context) error {
			time.Sleep(2 * time.Second)
			return c.run(ctx)
		}}}})
		wantReport(t, r.Ask(t.Context(), Synthetic), false, "[-]payment failed: not run yet")
		time.Sleep(2500 * time.Millisecond)
		begin := time.Now()
		wantReport(t, r.Ask(t.Context(), Synthetic), true, "[+]payment ok")
		if took := time.Since(begin); took != 0 {
			t.Errorf("the question waited %v for a background check", took)
		}
		c.fail("declined")
		time.Sleep(12 * time.Second)
		wantReport(t, r.Ask(t.Context(), Synthetic), false, "[-]payment failed: declined")
		if got := c.runs.Load(); got != 2 {
			t.Errorf("%d runs in 14.5 s, want 2", got)
		}
	})
}

func TestAHangingBackgroundCheckFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		release := make(chan struct{})
		r := registry(t, Config{Readiness: []Check{{Name: "b", Every: time.Second, Policy: Required, Run: func(context.Context) error {
			if runs.Add(1) > 1 {
				<-release
			}
			return nil
		}}}})
		synctest.Wait()
		wantReport(t, r.Ask(t.Context(), Readiness), true, "[+]owner ok", "[+]b ok")
		time.Sleep(30 * time.Second)
		wantReport(t, r.Ask(t.Context(), Readiness), false, "[+]owner ok", "[-]b failed: no answer within 1s")
		if runs.Load() != 2 {
			t.Errorf("%d runs, want 2", runs.Load())
		}
		close(release)
		time.Sleep(1500 * time.Millisecond)
		wantReport(t, r.Ask(t.Context(), Readiness), true, "[+]owner ok", "[+]b ok")
	})
}

func TestAPassedBackgroundStartupCheckRunsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c toggle
		c.fail("no")
		r := registry(t, Config{Startup: []Check{{Name: "warm", Every: time.Second, Run: c.run}}})
		time.Sleep(2500 * time.Millisecond)
		c.pass()
		time.Sleep(time.Minute)
		if !r.Ask(t.Context(), Startup).OK || c.runs.Load() != 4 {
			t.Errorf("OK %v after %d runs, want true after 4", r.Ask(t.Context(), Startup).OK, c.runs.Load())
		}
	})
}

func TestAPanicIsAFailure(t *testing.T) {
	r := registry(t, Config{Liveness: []Check{{Name: "nil", Run: func(context.Context) error { panic("oops") }}}})
	wantReport(t, r.Ask(t.Context(), Liveness), false, "[-]nil failed: panicked: oops")
}

func TestNewListsEveryProblem(t *testing.T) {
	fine := func(context.Context) error { return nil }
	_, err := New(Config{
		Liveness:  []Check{{Name: "db", Run: fine, Policy: Shared}, {Name: "a b", Run: fine}},
		Readiness: []Check{{Name: "x", Run: fine}, {Name: "x", Run: fine}, {Name: "owner", Run: fine}, {Name: "y"}},
		Synthetic: []Check{{Name: "z", Run: fine, Every: -1}, {Name: "p", Run: fine, Policy: 9}},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		`liveness check "db": a restart cures no shared dependency`, `liveness check "a b": a name`, `readiness check "x": the name is taken`,
		`readiness check "owner": the name is taken`, `readiness check "y": Run is nil`, `synthetic-readiness check "z": Timeout and Every`,
		`synthetic-readiness check "p": Policy`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
	if got := strings.Count(err.Error(), "\n") + 1; got != 7 {
		t.Errorf("%d problems, want 7:\n%v", got, err)
	}
}

// A run that is over cancels its context; that must not be mistaken for its deadline.
func TestAQuickCheckIsNeverLate(t *testing.T) {
	var c toggle
	r := registry(t, Config{Readiness: []Check{{Name: "a", Run: c.run}, {Name: "b", Run: c.run}, {Name: "c", Run: c.run}}})
	for range 5000 {
		if report := r.Ask(t.Context(), Readiness); !report.OK {
			t.Fatalf("%s", report)
		}
	}
}
