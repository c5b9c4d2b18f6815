package ledger

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

// full is a verdict as the agent has it at the end of a drain.
func full() timeline.Verdict {
	return timeline.Verdict{
		Time: noon, Level: "warn", Outcome: "deadline", TotalMS: 28_000, Phases: map[string]int64{"confirming": 10, "draining": 27_990},
		InFlightCurve:         [][2]int64{{0, 3}, {100, 4}, {28_000, 2}},
		NewConnectionsAfterT0: new(int64(1)), IdleConnectionsLeft: nil, ArrivalsAfterRelease: new(int64(2)), Score: new(0.25),
		HeldLongest: "app", Cut: map[string]int64{"proxy requests": 2, "app": 1, "bytes": 4096}, Trigger: "hook app, SIGTERM", Reason: "the budget is over",
	}
}

// What the ledger keeps of a termination message equals the agent's log line in every key that it carries.
func TestVerdictEqualsTheLogLine(t *testing.T) {
	v := full()
	line, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var logged map[string]json.RawMessage
	if err := json.Unmarshal(line, &logged); err != nil {
		t.Fatal(err)
	}
	first := firstEdition(v)
	messages := map[string]string{"this edition": v.Termination(1024), "the first edition": first, "the end of a log": "W: x\n{\"msg\":\"drain\"}\n" + string(line) + "\n"}
	for what, message := range messages {
		for cut := range len(message) + 1 {
			got := readVerdict(message[:cut])
			if got == nil {
				continue
			}
			var kept map[string]json.RawMessage
			if err := json.Unmarshal(got.Raw, &kept); err != nil {
				t.Fatalf("%s cut at %d: %s: %v", what, cut, got.Raw, err)
			}
			for key, value := range kept {
				if string(value) != string(logged[key]) {
					t.Errorf("%s cut at %d: %s is %s, the log says %s", what, cut, key, value, logged[key])
				}
			}
			if whole := len(kept) == len(logged)-1; got.Whole && !whole || got.Outcome != "deadline" {
				t.Fatalf("%s cut at %d: outcome %s, whole %v, %d of %d keys", what, cut, got.Outcome, got.Whole, len(kept), len(logged)-1)
			}
			if _, has := kept["cut"]; (got.Cut != nil) != has || has && *got.Cut != 3 {
				t.Errorf("%s cut at %d: requests cut %v", what, cut, got.Cut)
			}
			if _, has := kept["total_ms"]; (got.TotalMS != nil) != has || has && *got.TotalMS != 28_000 {
				t.Errorf("%s cut at %d: total %v", what, cut, got.TotalMS)
			}
			if _, has := kept["arrivals_after_release"]; (got.Late != nil) != has {
				t.Errorf("%s cut at %d: late %v", what, cut, got.Late)
			}
		}
		if got := readVerdict(message); got == nil || !got.Whole || !got.Time.Equal(noon) {
			t.Errorf("%s as a whole: %+v", what, got)
		}
	}
	// What kubelet leaves of the first edition's message in a pod with twelve containers.
	if got := readVerdict(first[:1024]); got == nil || got.Outcome != "deadline" || got.TotalMS == nil || got.Whole {
		t.Errorf("the first 1,024 bytes of the first edition: %+v", got)
	}
}

// firstEdition is that edition's termination message, of up to 4,096 bytes: the same keys, and in their midst as much of the curve as fits.
func firstEdition(v timeline.Verdict) string {
	v.InFlightCurve = nil
	for i := range int64(120) {
		v.InFlightCurve = append(v.InFlightCurve, [2]int64{i * 233, i % 7})
	}
	text, _ := v.MarshalJSON() // never fails
	return string(text)
}

func TestWhatIsNoVerdict(t *testing.T) {
	for _, text := range []string{
		"", "{", "{}", "[]", "null", `{"msg":"verdict"}`, `{"msg":"verdict","outcome":"unknown"}`, `{"msg":"verdict","outcome":7}`,
		`{"msg":"drain","outcome":"clean"}`, `{"outcome":"clean"}`, `{"msg":"verdict","outcome":"cle`, "panic: oh", strings.Repeat("{", 4096),
	} {
		if got := readVerdict(text); got != nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

// Numbers that no agent writes are unknown; they never reach a sum.
func TestInventedNumbers(t *testing.T) {
	for number, want := range map[string]bool{"0": true, "7": true, "-1": false, "1e400": false, "9223372036854775807": false, "null": false, `"7"`: false, "1.5": false} {
		got := readVerdict(`{"msg":"verdict","outcome":"clean","total_ms":` + number + `,"arrivals_after_release":` + number + `,"cut":{"app":` + number + `,"bytes":1}}`)
		if got == nil || (got.TotalMS != nil) != want || (got.Late != nil) != want || (got.Cut != nil) != want {
			t.Errorf("%s: %+v", number, got)
		}
	}
	got := readVerdict(`{"msg":"verdict","outcome":"clean","total_ms":12`)
	if got == nil || got.TotalMS != nil {
		t.Errorf("a number whose end may be missing: %+v", got)
	}
}

// FuzzVerdict: what a pod writes breaks nothing, and what is kept is JSON.
func FuzzVerdict(f *testing.F) {
	f.Add(full().Termination(1024))
	f.Add(firstEdition(full())[:1024])
	f.Add(`{"msg":"verdict","outcome":"clean","outcome":"deadline","time":"x","cut":[]}`)
	f.Fuzz(func(t *testing.T, text string) {
		v := readVerdict(text)
		if v == nil {
			return
		}
		stop := row(Pod{UID: "u"}, v, true)
		body, err := json.Marshal(stop)
		if err != nil || v.Outcome == unknown || v.Time.Before(time.Time{}) {
			t.Fatalf("%q: %v", text, err)
		}
		increments(stop)
		_ = body
	})
}
