package timeline_test

import (
	"bytes"
	"cmp"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

var update = flag.Bool("update", false, "rewrite the golden files; read the difference before you commit it")

var t0 = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)

// story is one drain as an agent would record it.
type story struct {
	events  []timeline.Event
	verdict *timeline.Verdict
}

// at is an event at ms with the readings proxy, app and connections; -1 is unknown.
func at(ms int64, from, to, reason string, readings ...int64) timeline.Event {
	e := timeline.Event{
		Time: t0.Add(time.Duration(ms) * time.Millisecond), Level: timeline.LevelInfo, ElapsedMS: ms,
		From: from, To: cmp.Or(to, from), Reason: reason, LeftMS: new(28_000 - ms),
	}
	for i, n := range readings {
		if n >= 0 {
			*[]**int64{&e.ProxyInFlight, &e.AppInFlight, &e.Connections}[i] = &n
		}
	}
	if e.ProxyInFlight != nil {
		e.ProxyRung = "clusters+http"
	}
	if e.AppInFlight != nil {
		e.AppSource = "prometheus"
	}
	return e
}

func did(e timeline.Event, action, result string) timeline.Event {
	e.Action, e.Result = action, result
	return e
}

func level(e timeline.Event, l string) timeline.Event {
	e.Level = l
	return e
}

func scored(e timeline.Event, score float64) timeline.Event {
	e.Score = &score
	return e
}

// clean is a drain with a dip to zero that did not last.
func clean() story {
	s := story{events: []timeline.Event{
		did(at(0, "serving", "confirming", "hook of app called: one container, or the pod?"), timeline.Hold("app"), ""),
		did(at(2, "confirming", "announcing", "facts of two containers: the pod is terminating"), timeline.Hold("proxy"), ""),
		did(at(3, "announcing", "", "", 12, 11, 48), timeline.Hold("agent"), ""),
		scored(at(1520, "announcing", "draining", "no new connection for 500ms", 9, 9, 48), 1.92),
		did(at(1521, "draining", "", "", 9, 9, 48), "drain_listeners", ""),
		did(at(1524, "draining", "", "", 9, 9, 48), "drain_listeners", "ok"),
		did(at(1525, "draining", "", "drain strategy is gradual over 600s", 9, 9, 48), "healthcheck_fail", "ok"),
		scored(at(4100, "draining", "settling", "proxy and app have nothing in flight, score 0.016 <= 0.02", 0, 0, 6), 0.016),
		scored(at(4210, "settling", "draining", "traffic returned: proxy has 2 in flight", 2, 1, 6), 0.016),
		scored(at(7600, "draining", "settling", "proxy and app have nothing in flight, score 0.004 <= 0.02", 0, 0, 4), 0.004),
		scored(at(7800, "settling", "stopping", "zero for 200ms", 0, 0, 4), 0.004),
		did(at(7801, "stopping", "", "settled zero", 0, 0, 4), timeline.Answer("app"), ""),
		did(at(8140, "stopping", "", "app is gone", 0, -1, 3), timeline.Answer("proxy"), ""),
		at(8390, "stopping", "finished", "proxy is gone"),
		did(at(8391, "finished", "", "last stage gone"), timeline.Answer("agent"), ""),
	}}
	s.verdict = &timeline.Verdict{
		Time: t0.Add(8392 * time.Millisecond), Level: timeline.LevelInfo, Outcome: "clean", TotalMS: 8392,
		Phases: map[string]int64{
			"confirming": 2, "announcing": 1518, "draining": 5970, "settling": 310, "stopping": 590, "finished": 2,
		},
		InFlightCurve: [][2]int64{
			{3, 12},
			{180, 12},
			{420, 14},
			{700, 11},
			{1100, 10},
			{1520, 9},
			{1900, 8},
			{2300, 6},
			{2700, 5},
			{3000, 3},
			{3400, 2},
			{4000, 1},
			{4100, 0},
			{4200, 0},
			{4210, 2},
			{5600, 2},
			{5700, 1},
			{7500, 1},
			{7600, 0},
			{8140, 0},
		},
		NewConnectionsAfterT0: new(int64(7)), IdleConnectionsLeft: new(int64(4)), ArrivalsAfterRelease: new(int64(0)),
		Score: new(0.004), HeldLongest: "app", Trigger: "hook app", Reason: "every hook was answered at settled zero",
	}
	return s
}

// blind is a drain whose proxy stopped telling; requests were cut at the deadline.
func blind() story {
	s := story{events: []timeline.Event{
		did(at(0, "serving", "confirming", "hook of proxy called: one container, or the pod?", -1, 130, -1), timeline.Hold("proxy"), ""),
		did(at(11, "confirming", "announcing", "facts of two containers: the pod is terminating", 131, 130, 512), timeline.Hold("app"), ""),
		scored(at(2011, "announcing", "draining", "announced for the whole announce-max of 2s", 120, 118, 498), 4.5),
		level(did(at(2512, "draining", "", "", 119, 117, 498), "drain_listeners", "POST /drain_listeners: timeout after 500ms"), timeline.LevelError),
		level(at(4000, "draining", "", "proxy cannot be read: admin timed out 3 times, backing off to 2s", -1, 96, -1), timeline.LevelWarn),
		at(15000, "draining", "", "proxy can be read again", 41, 41, 77),
		level(at(21000, "draining", "", "proxy cannot be read: admin timed out 3 times, backing off to 2s", -1, 9, -1), timeline.LevelWarn),
		level(at(26000, "draining", "stopping", "the budget is over", -1, 3, -1), timeline.LevelWarn),
		level(did(at(26001, "stopping", "", "the budget is over", -1, 3, -1), timeline.Answer("app"), ""), timeline.LevelWarn),
		level(did(at(26902, "stopping", "finished", "stage app capped after 0.9s", -1, -1, -1), timeline.Answer("proxy"), ""), timeline.LevelWarn),
	}}
	s.verdict = &timeline.Verdict{
		Time: t0.Add(26903 * time.Millisecond), Level: timeline.LevelError, Outcome: "deadline", TotalMS: 26903,
		Phases: map[string]int64{"confirming": 11, "announcing": 2000, "draining": 23989, "stopping": 902, "finished": 1},
		InFlightCurve: [][2]int64{
			{11, 131}, {900, 139}, {2011, 120}, {2600, 117}, {3200, 101}, {3900, 96}, {15000, 41}, {17000, 22}, {20900, 9}, {24000, 7}, {25000, 4},
		},
		NewConnectionsAfterT0: new(int64(212)), HeldLongest: "app", Cut: map[string]int64{"app": 3},
		Trigger: "hook proxy", Reason: "grace 30s was not enough: app had 3 in flight, proxy could not be read",
	}
	return s
}

// observed is observe mode: one hook answered at once, what the rules would have done, no verdict yet.
func observed() story {
	return story{events: []timeline.Event{
		did(at(0, "serving", "confirming", "hook of app called: one container, or the pod?", 40, 38, 60), timeline.Hold("app"), ""),
		did(at(5, "confirming", "announcing", "facts of two containers: the pod is terminating", 40, 38, 60), timeline.Hold("agent"), ""),
		scored(at(900, "announcing", "draining", "no new connection for 500ms", 21, 20, 44), 0.7),
		did(at(2400, "draining", "settling", "nothing in flight", 0, 0, 12), timeline.WouldAnswer("app"), ""),
		did(at(3000, "settling", "", "a line\nbreak and \x1b[31mcolour from outside", 0, 0, 12), timeline.Answer("app"), ""),
	}}
}

// recorded passes a story through a recorder, which numbers it.
func recorded(s story, sinks ...func(timeline.Line)) []timeline.Event {
	r := timeline.NewRecorder(sinks...)
	for _, e := range s.events {
		r.Record(e)
	}
	if s.verdict != nil {
		r.Conclude(*s.verdict)
	}
	return r.Events()
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (run with -update and read the difference):\n%s\nwant:\n%s", path, got, want)
	}
}

func TestGoldenLines(t *testing.T) {
	for format, name := range map[string]string{timeline.FormatJSON: "golden.jsonl", timeline.FormatText: "golden.txt"} {
		var out bytes.Buffer
		sink := timeline.NewSink(&out, format)
		for _, s := range []story{clean(), blind(), observed()} {
			recorded(s, sink.Put)
		}
		if err := sink.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.Bytes())
		if lines := strings.Count(out.String(), "\n"); lines != 32 {
			t.Errorf("%s: %d lines, want one for each of 30 events and 2 verdicts", name, lines)
		}
	}
}

func TestGoldenDrawings(t *testing.T) {
	alone := clean()
	alone.events = nil
	stories := map[string]story{"clean": clean(), "blind": blind(), "observed": observed(), "alone": alone}
	for name, s := range stories {
		for suffix, style := range map[string]timeline.Style{"": {}, "-ascii": {ASCII: true}, "-color": {Color: true}} {
			for width, columns := range map[int]string{80: "-80", 120: "-120"} {
				if style != (timeline.Style{}) && (name == "alone" || width == 120) {
					continue
				}
				var out bytes.Buffer
				if err := style.Draw(&out, recorded(s), s.verdict, width); err != nil {
					t.Fatal(err)
				}
				golden(t, name+columns+suffix+".txt", out.Bytes())
			}
		}
	}
}

func TestDrawingStaysInsideItsWidth(t *testing.T) {
	s := blind()
	s.events = slices.Concat(s.events, slices.Repeat([]timeline.Event{
		level(did(at(26902, "stopping", "", strings.Repeat("long ", 60), 1, 1, 1), "verb "+strings.Repeat("x", 300), "ok"), "warn"),
	}, 40))
	for _, width := range []int{60, 61, 80, 99, 120, 300} {
		for _, style := range []timeline.Style{{}, {ASCII: true}} {
			var out bytes.Buffer
			if err := style.Draw(&out, s.events, s.verdict, width); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out.String()) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
					t.Errorf("width %d: a line of %d: %q", width, n, line)
				}
				if i := strings.IndexFunc(line, func(r rune) bool { return r > '~' }); style.ASCII && i >= 0 {
					t.Errorf("not ASCII: %q", line)
				}
			}
		}
	}
}
