package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/verify"
)

// verified runs drainctl verify while the test plays the cluster, and returns when both have ended.
func (s *stage) verified(play func(context.Context), args ...string) (code int, r verify.Report, text, said string) {
	s.Helper()
	var out, err bytes.Buffer
	ctx, stop := context.WithCancel(s.Context())
	var playing sync.WaitGroup
	if play != nil {
		playing.Go(func() { play(ctx) })
	}
	within := ctx
	if s.interrupt != nil {
		within = s.interrupt
	}
	code = runWithin(within, append([]string{"drainctl", "verify", "--kubeconfig=" + s.kubeconfig, "-n", s.namespace, "-o", "json", strings.ToLower(s.kind()) + "/web"}, args...), nil, &out, &err)
	stop()
	playing.Wait()
	if code == exitUsage {
		return code, r, "", err.String()
	}
	if e := json.Unmarshal(out.Bytes(), &r); e != nil {
		s.Fatalf("%d %v\n%s%s", code, e, &out, &err)
	}
	var b strings.Builder
	if e := r.Text(&b); e != nil {
		s.Fatal(e)
	}
	return code, r, b.String(), err.String()
}

// last is the termination message of a drain.
func last(outcome string, change func(*timeline.Verdict)) string {
	none, hour := int64(0), time.Hour.Milliseconds()
	v := timeline.Verdict{Time: time.Now(), Level: "info", Outcome: outcome, TotalMS: hour, Phases: map[string]int64{"announcing": hour}, ArrivalsAfterRelease: &none, Reason: "it was so", Trigger: "hook app"}
	if change != nil {
		change(&v)
	}
	return v.Termination(1024)
}

func TestVerifyRollout(t *testing.T) {
	for name, row := range map[string]struct {
		behaviour
		want string // of each pod; "": it passes
	}{
		"a good workload":             {behaviour{message: last("clean", nil)}, ""},
		"a verdict that is not clean": {behaviour{message: last("deadline", func(v *timeline.Verdict) { v.Cut = map[string]int64{"app": 3} }), exit: 2}, "deadline"},
		"what was cut":                {behaviour{message: last("clean", func(v *timeline.Verdict) { v.Cut = map[string]int64{"bytes": 3} })}, "cut"},
		"requests after the release":  {behaviour{message: last("clean", func(v *timeline.Verdict) { *v.ArrivalsAfterRelease = 2 })}, "arrivals"},
		"a hook that fails":           {behaviour{message: last("clean", nil), hookFails: true}, "hook-failed"},
		"no verdict":                  {behaviour{exit: 1}, "no-verdict"},
		"no last status":              {behaviour{vanishes: true}, "no-verdict"},
		"an app that is killed":       {behaviour{message: last("clean", nil), killed: true}, "killed"},
		"late endpoints":              {behaviour{message: last("clean", func(v *timeline.Verdict) { v.TotalMS, v.Phases["announcing"] = 0, 0 }), stays: true}, "endpoints-late"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, nil)
			code, r, text, said := s.verified(func(ctx context.Context) { s.play(ctx, row.behaviour) })
			var errors []string
			for _, f := range r.Findings {
				if f.Severity == verify.Error {
					errors = append(errors, f.Check)
					if f.Fix == "" || f.Pod == "" {
						t.Errorf("no fix, or no pod: %+v", f)
					}
				}
			}
			want, result := exitOK, ""
			if row.want != "" {
				want, result = exitFindings, row.want+" "+row.want
			}
			if code != want || strings.Join(errors, " ") != result || len(r.Stops) != 2 || !r.Rolled {
				t.Errorf("exit code %d, errors %v, want %q\n%s%s", code, errors, result, text, said)
			}
		})
	}
}
