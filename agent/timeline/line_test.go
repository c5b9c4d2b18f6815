package timeline_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

func decodeAll(t *testing.T, r io.Reader) (lines []timeline.Line) {
	t.Helper()
	for line, err := range timeline.Decode(r) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}

// What was written comes back the same, whatever stands around it.
func TestDecodeReadsBackWhatWasWritten(t *testing.T) {
	var want []timeline.Line
	for _, s := range []story{clean(), blind(), observed()} {
		recorded(s, func(l timeline.Line) { want = append(want, l) })
	}
	foreign := []string{
		"", "not JSON", "{", "[]", "{}", `{"msg":"drain"}`, `{"msg":"verdict","time":"2026-11-23T09:30:00Z"}`,
		`{"time":"2026-11-23T09:30:00Z","level":"info","msg":"drain","pipes":3}`,
		`{"time":"yesterday","msg":"drain","seq":1,"elapsed_ms":1}`,
		`{"time":"2026-11-23T09:30:00Z","msg":"drain","seq":"1","elapsed_ms":1}`,
		strings.Repeat("{", 300<<10), `{"x":"` + strings.Repeat("y", 300<<10) + `"}`,
	}
	var log strings.Builder
	for i, l := range want {
		b, err := l.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		log.WriteString(foreign[i%len(foreign)] + "\n")
		log.WriteString([]string{"", "[pod/web-1/agent] ", "2026-11-23T09:30:00.1Z stdout F "}[i%3] + string(b) + "\n")
	}
	got := decodeAll(t, strings.NewReader(strings.TrimSuffix(log.String(), "\n")))
	for _, l := range want { // empty is written for what is missing
		if l.Verdict != nil && l.Verdict.Cut == nil {
			l.Verdict.Cut = map[string]int64{}
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read back %d lines, want %d; first: %+v", len(got), len(want), got[0].Event)
	}
}

func TestDecodeReportsOnlyReadErrors(t *testing.T) {
	file, err := os.ReadFile("testdata/golden.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	lines, last := 0, error(nil)
	for _, err := range timeline.Decode(io.MultiReader(bytes.NewReader(file), iotest.ErrReader(broken))) {
		lines, last = lines+1, err
	}
	if lines != 33 || !errors.Is(last, broken) {
		t.Errorf("%d pairs, last error %v; want 32 lines and the error", lines, last)
	}
}

func TestDecodeSkipsLinesThatAreTooLong(t *testing.T) {
	b, err := timeline.Event{Reason: strings.Repeat("x", 257<<10)}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if lines := decodeAll(t, bytes.NewReader(b)); len(lines) != 0 {
		t.Errorf("a line of %d bytes was kept", len(b))
	}
}

func TestDecodeStopsWhenAsked(t *testing.T) {
	file, err := os.Open("testdata/golden.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n := 0
	for range timeline.Decode(file) {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("%d lines before the break, want 3", n)
	}
}

// The keys and their order are the contract; a consumer's own struct must find them.
func TestKeysAndTheirOrder(t *testing.T) {
	keys := func(v json.Marshaler) (names []string) {
		b, err := v.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(bytes.NewReader(b))
		depth, isKey := 0, false
		for {
			token, err := dec.Token()
			if err != nil {
				return names
			}
			switch token {
			case json.Delim('{'), json.Delim('['):
				depth++
				isKey = depth == 1
				continue
			case json.Delim('}'), json.Delim(']'):
				depth--
				isKey = depth == 1
				continue
			}
			if depth == 1 {
				if isKey {
					names = append(names, token.(string))
				}
				isKey = !isKey
			}
		}
	}
	for want, v := range map[string]json.Marshaler{
		"time level msg seq elapsed_ms from to reason proxy_in_flight proxy_rung app_in_flight app_source connections score action result left_ms":                           timeline.Event{},
		"time level msg outcome total_ms phases in_flight_curve new_connections_after_t0 idle_connections_left arrivals_after_release score held_longest cut trigger reason": timeline.Verdict{},
	} {
		if got := strings.Join(keys(v), " "); got != want {
			t.Errorf("keys\n%s\nwant\n%s", got, want)
		}
	}
}

func TestUnknownIsNullNeverZero(t *testing.T) {
	nan := 0.0
	nan /= nan
	event, _ := timeline.Event{Score: &nan}.MarshalJSON()
	verdict, _ := timeline.Verdict{}.MarshalJSON()
	for _, want := range []string{`"proxy_in_flight":null`, `"app_in_flight":null`, `"connections":null`, `"score":null`, `"left_ms":null`} {
		if !strings.Contains(string(event), want) {
			t.Errorf("no %s in %s", want, event)
		}
	}
	for _, want := range []string{
		`"phases":{}`, `"in_flight_curve":[]`, `"new_connections_after_t0":null`, `"idle_connections_left":null`,
		`"arrivals_after_release":null`, `"score":null`, `"cut":{}`,
	} {
		if !strings.Contains(string(verdict), want) {
			t.Errorf("no %s in %s", want, verdict)
		}
	}
}

// Whatever a log holds: no panic, no line of a drawing or text is broken, and what was decoded survives being written.
func FuzzDecode(f *testing.F) {
	golden, err := os.ReadFile("testdata/golden.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for line := range bytes.Lines(golden) { // short seeds: minimising a long one takes a minute
		f.Add(line)
	}
	f.Add([]byte(`{"time":"2026-11-23T09:30:00Z","msg":"verdict","outcome":"x","total_ms":9223372036854775807,"in_flight_curve":[[-5,-9],[9223372036854775807,9223372036854775807]],"phases":{"a":-1,"b":9223372036854775807}}`))
	f.Add([]byte(`{"time":"2026-11-23T09:30:00Z","msg":"drain","seq":-1,"elapsed_ms":-9223372036854775808,"to":"\u001b[2J\n","level":"warn"}`))
	f.Fuzz(func(t *testing.T, log []byte) {
		var events []timeline.Event
		var verdict *timeline.Verdict
		for line, err := range timeline.Decode(bytes.NewReader(log)) {
			if err != nil {
				t.Fatal(err)
			}
			if strings.ContainsAny(line.Text(), "\n\r\x1b") {
				t.Fatalf("text can steer a terminal: %q", line.Text())
			}
			b, err := line.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			if n := len(decodeAll(t, bytes.NewReader(b))); n != 1 {
				t.Fatalf("%s\nread back as %d lines", b, n)
			}
			if line.Event != nil {
				events = append(events, *line.Event)
			} else {
				verdict = line.Verdict
				if s := verdict.Termination(600); len(s) > 600 || !json.Valid([]byte(s)) {
					t.Fatalf("termination message of %d bytes: %s", len(s), s)
				}
			}
		}
		var drawing strings.Builder
		if err := timeline.Draw(&drawing, events, verdict, 80); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(drawing.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 || strings.Contains(line, "\x1b") {
				t.Fatalf("a line of %d columns: %q", n, line)
			}
		}
	})
}
