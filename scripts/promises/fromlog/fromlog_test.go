package fromlog_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/promises/fromlog"
)

// stop is the log of an ordinary pod stop; change may alter its lines.
func stop(t *testing.T, change func(i int, e *timeline.Event) bool, v timeline.Verdict) string {
	t.Helper()
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	zero, one, low := int64(0), int64(1), 0.0
	lines := []timeline.Event{
		0:  {ElapsedMS: 0, From: "serving", To: "serving", Action: "hold app", Reason: "hook called"},
		1:  {ElapsedMS: 1, From: "serving", To: "confirming", Reason: "hook of app called"},
		2:  {ElapsedMS: 2, From: "confirming", To: "confirming", Action: "hold agent", Reason: "hook called"},
		3:  {ElapsedMS: 3, From: "confirming", To: "announcing", Reason: "facts of two containers"},
		4:  {ElapsedMS: 4, From: "announcing", To: "announcing", Action: "hold proxy", Reason: "hook called", ProxyInFlight: &one, AppInFlight: &one},
		5:  {ElapsedMS: 600, From: "announcing", To: "draining", Reason: "no new connection", ProxyInFlight: &one, AppInFlight: &one},
		6:  {ElapsedMS: 610, From: "draining", To: "draining", Action: "healthcheck_fail", Result: "ok", ProxyInFlight: &one, AppInFlight: &one},
		7:  {ElapsedMS: 4000, From: "draining", To: "settling", Reason: "nothing in flight", ProxyInFlight: &zero, AppInFlight: &zero, Score: &low},
		8:  {ElapsedMS: 4200, From: "settling", To: "stopping", Reason: "zero held", ProxyInFlight: &zero, AppInFlight: &zero, Score: &low},
		9:  {ElapsedMS: 4200, From: "stopping", To: "stopping", Action: "answer app", ProxyInFlight: &zero, AppInFlight: &zero, Score: &low},
		10: {ElapsedMS: 4500, From: "stopping", To: "stopping", Reason: "app was up, is gone", ProxyInFlight: &zero},
		11: {ElapsedMS: 4550, From: "stopping", To: "stopping", Action: "answer proxy", ProxyInFlight: &zero},
		12: {ElapsedMS: 4700, From: "stopping", To: "stopping", Reason: "proxy was up, is gone"},
		13: {ElapsedMS: 4750, From: "stopping", To: "finished", Reason: "proxy is gone"},
		14: {ElapsedMS: 4750, From: "finished", To: "finished", Action: "answer agent"},
	}
	var b strings.Builder
	seq := 0
	for i := range lines {
		e := lines[i]
		if change != nil && !change(i, &e) {
			continue
		}
		seq++
		e.Seq, e.Level, e.Time = seq, "info", t0.Add(time.Duration(e.ElapsedMS)*time.Millisecond)
		text, err := e.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", text)
	}
	if v.Outcome != "" {
		v.Time, v.TotalMS, v.Phases = t0.Add(4760*time.Millisecond), 4760, map[string]int64{"announcing": 600, "draining": 3400, "settling": 200, "stopping": 560}
		text, err := v.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", text)
	}
	return b.String()
}

// forced lets the app go at that time with a request in flight, in a stop whose first hook must be answered after 21 s.
func forced(at int64) func(i int, e *timeline.Event) bool {
	busy := int64(1)
	return func(i int, e *timeline.Event) bool {
		if e.AppInFlight = &busy; i == 8 {
			e.ElapsedMS, e.From = 20_985, "draining"
		}
		if i == 9 {
			e.ElapsedMS = at
		}
		return i < 10 && i != 7
	}
}

// The answers of one decision are one line each, in the order of the names; a later one is judged by its own time.
func TestAnswersInARow(t *testing.T) {
	for name, c := range map[string]struct {
		args   []string
		change func(i int, e *timeline.Event) bool
		want   string
	}{
		"the next stage's stands first": {
			args: []string{"--stop-order=proxy,app", "--outlives-me=proxy"},
			change: func(i int, e *timeline.Event) bool {
				switch i {
				case 9:
					e.ElapsedMS = 4230
				case 10:
					e.ElapsedMS, e.Action, e.Reason = 4230, "answer proxy", ""
				case 11:
					e.ElapsedMS, e.Action, e.Reason = 4500, "", "app was up, is gone"
				}
				return true
			},
		},
		"a moment after a change of phase, when the time is over": {change: forced(21_003)},
		"and before that": {change: forced(20_985), want: "answeredForAReason: hook of app"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"run", "--grace-period=30s", "--app-source=prometheus:http://127.0.0.1/metrics#a", "--hooks=app,proxy,agent"}, c.args...)
			pod, err := fromlog.Pod(args)
			if err != nil {
				t.Fatal(err)
			}
			broken := strings.Join(fromlog.Broken(pod, stop(t, c.change, timeline.Verdict{})), "\n")
			if c.want == "" && broken != "" || !strings.Contains(broken, c.want) {
				t.Errorf("broken: %q, want %q", broken, c.want)
			}
		})
	}
}

// The clock of the machine may jump while the pod stops: neither is a promise broken by it, nor does it hide one that is.
func TestClockJumps(t *testing.T) {
	pod, err := fromlog.Pod([]string{"run", "--grace-period=30s", "--app-source=prometheus:http://127.0.0.1/metrics#a", "--hooks=app,proxy,agent"})
	if err != nil {
		t.Fatal(err)
	}
	for _, hour := range []string{"T02:", "T04:"} {
		for log, want := range map[string]string{
			stop(t, nil, timeline.Verdict{Outcome: "clean"}): "",
			stop(t, forced(20_985), timeline.Verdict{}):      "answeredForAReason: hook of app",
		} {
			lines := strings.SplitAfter(log, "\n")
			for i := 5; i < len(lines); i++ {
				lines[i] = strings.Replace(lines[i], "T03:", hour, 1)
			}
			broken := fromlog.Broken(pod, strings.Join(lines, ""))
			if want == "" && len(broken) > 0 || want != "" && (len(broken) != 1 || !strings.Contains(broken[0], want)) {
				t.Errorf("from %s on: broken: %q, want %q", hour, broken, want)
			}
		}
	}
}

// A busy machine may write the line of the first hook with a time that is too late: propagation still counts from the hook.
func TestTheFirstLineTellsALateTime(t *testing.T) {
	pod, err := fromlog.Pod([]string{"run", "--grace-period=30s", "--app-source=prometheus:http://127.0.0.1/metrics#a", "--hooks=app,proxy,agent"})
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[int64]string{1500: "", 1479: "propagationIsKept"} {
		log := stop(t, func(i int, e *timeline.Event) bool {
			if i == 7 {
				e.ElapsedMS = at
			}
			return true
		}, timeline.Verdict{Outcome: "clean"})
		lines := strings.SplitAfter(log, "\n")
		second := strings.Replace(lines[1], "03:04:05.001Z", "03:04:04.981Z", 1)
		if second == lines[1] {
			t.Fatalf("the time is not in %s", second)
		}
		lines[1] = second
		broken := strings.Join(fromlog.Broken(pod, strings.Join(lines, "")), "\n")
		if want == "" && broken != "" || !strings.Contains(broken, want) {
			t.Errorf("zero after %d ms: broken: %q, want %q", at, broken, want)
		}
	}
}

func TestBroken(t *testing.T) {
	clean := timeline.Verdict{Outcome: "clean"}
	busy := int64(1)
	without := func(gone ...int) func(int, *timeline.Event) bool {
		return func(i int, _ *timeline.Event) bool { return !slices.Contains(gone, i) }
	}
	alter := func(at int, do func(*timeline.Event)) func(int, *timeline.Event) bool {
		return func(i int, e *timeline.Event) bool {
			if i == at {
				do(e)
			}
			return true
		}
	}
	late := func(i int, e *timeline.Event) bool { // the first fact is written 20 ms late, the stop is forced the very moment that its time is over
		switch {
		case i <= 4:
			e.ElapsedMS = 20
		case i == 7:
			return false
		case i >= 8:
			e.ElapsedMS += 21_000 - 4200
			e.AppInFlight = &busy
		}
		if i == 8 {
			e.From, e.Reason = "draining", "grace period budget is over at 21s"
		}
		return true
	}
	for name, c := range map[string]struct {
		change  func(int, *timeline.Event) bool
		verdict timeline.Verdict
		want    string // "" for none
	}{
		"an ordinary stop":                {nil, clean, ""},
		"a request in flight":             {alter(8, func(e *timeline.Event) { e.AppInFlight = &busy }), clean, "answeredForAReason: hook of app"},
		"an unknown app":                  {alter(8, func(e *timeline.Event) { e.AppInFlight = nil }), clean, "answeredForAReason: hook of app"},
		"an unknown proxy":                {alter(7, func(e *timeline.Event) { e.ProxyInFlight = nil }), clean, "unknownHolds: proxy is unknown"},
		"before propagation is over":      {alter(7, func(e *timeline.Event) { e.ElapsedMS = 1200 }), clean, "propagationIsKept"},
		"a score that is too high":        {alter(8, func(e *timeline.Event) { high := 0.5; e.Score = &high }), clean, "scoreIsLow"},
		"the proxy before the app's end":  {without(10), clean, "answeredForAReason: hook of proxy"},
		"the app's hook without a reason": {alter(6, func(e *timeline.Event) { e.Action, e.Result = "answer app", "" }), clean, "answeredForAReason: hook of app"},
		"drained on one signal":           {without(0, 4), clean, "oneSignalChangesNothing"},
		"drained for good without proof":  {alter(6, func(e *timeline.Event) { e.Action = "drain_listeners" }), clean, "irreversibleNeedsProof"},
		"a verdict that is not true":      {nil, timeline.Verdict{Outcome: "app_died"}, "verdictIsTrue: app_died"},
		"deadline, and it was none":       {nil, timeline.Verdict{Outcome: "deadline"}, "verdictIsTrue: deadline"},
		"lines that are written late":     {late, timeline.Verdict{Outcome: "deadline"}, ""},
		"a hook held beyond all":          {alter(11, func(e *timeline.Event) { e.ElapsedMS = 40_000 }), clean, "heldNoLonger"},
	} {
		t.Run(name, func(t *testing.T) {
			pod, err := fromlog.Pod([]string{"run", "--grace-period=30s", "--app-source=prometheus:http://127.0.0.1/metrics#a", "--hooks=app,proxy,agent"})
			if err != nil {
				t.Fatal(err)
			}
			broken := strings.Join(fromlog.Broken(pod, stop(t, c.change, c.verdict)), "\n")
			if c.want == "" && broken != "" || !strings.Contains(broken, c.want) {
				t.Errorf("broken: %q, want %q", broken, c.want)
			}
		})
	}
}
