package rollout_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/rollout"
)

// oneDrain are the lines of one drain, as the agent writes them.
func oneDrain(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../testdata/rollout/web-1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) < 5 || !strings.Contains(lines[len(lines)-1], `"verdict"`) {
		t.Fatalf("no whole drain: %d lines", len(lines))
	}
	return lines
}

func quoted(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func parsed(t *testing.T, line string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(line), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// wrappers are what collectors make of a line; pod is the name that the result must tell.
func wrappers(t *testing.T) map[string]func(line string) string {
	stamp := func(line string) string { return parsed(t, line)["time"].(string) }
	return map[string]func(string) string{
		"file":                 func(l string) string { return l },
		"kubectl --timestamps": func(l string) string { return stamp(l) + " " + l },
		"kubectl --prefix":     func(l string) string { return "[pod/web-9/drain-agent] " + l },
		"docker": func(l string) string {
			return quoted(t, map[string]string{"log": l + "\n", "stream": "stderr", "time": stamp(l)})
		},
		"docker, cut": func(l string) string {
			return quoted(t, map[string]string{"log": l[:50], "stream": "stderr", "time": stamp(l)}) + "\n" + quoted(t, map[string]string{"log": l[50:] + "\n", "stream": "stderr", "time": stamp(l)})
		},
		"containerd": func(l string) string { return stamp(l) + " stderr F " + l },
		"containerd, cut": func(l string) string {
			return stamp(l) + " stderr P " + l[:70] + "\n" + stamp(l) + " stderr F " + l[70:]
		},
		"logcli": func(l string) string { return stamp(l) + ` {app="web", pod="web-9"} ` + l },
		"logcli -o jsonl": func(l string) string {
			return quoted(t, map[string]any{"labels": map[string]string{"pod": "web-9"}, "line": l, "timestamp": stamp(l)})
		},
		"logcli of docker": func(l string) string {
			return stamp(l) + ` {pod="web-9"} ` + quoted(t, map[string]string{"log": l + "\n", "stream": "stderr", "time": stamp(l)})
		},
		"loki's api": func(l string) string {
			return quoted(t, map[string]any{"status": "success", "data": map[string]any{"resultType": "streams", "result": []any{map[string]any{"stream": map[string]string{"pod": "web-9"}, "values": [][]string{{"1700000000000000000", l}}}}}})
		},
		"elasticsearch": func(l string) string {
			return quoted(t, map[string]any{"_index": "logs", "_source": map[string]any{"@timestamp": stamp(l), "message": l, "kubernetes": map[string]any{"pod": map[string]any{"name": "web-9"}}}})
		},
		"elasticsearch, parsed": func(l string) string {
			v := parsed(t, l)
			v["kubernetes"] = map[string]any{"pod_name": "web-9"}
			return quoted(t, map[string]any{"_source": v})
		},
		"fluent-bit, both": func(l string) string {
			return quoted(t, map[string]any{"_source": map[string]any{"log": l, "log_processed": parsed(t, l), "kubernetes": map[string]any{"pod_name": "web-9"}}})
		},
		"elasticsearch's hits": func(l string) string {
			return quoted(t, map[string]any{"hits": map[string]any{"total": 1, "hits": []any{map[string]any{"_source": map[string]any{"message": l}}}}})
		},
		"google cloud": func(l string) string {
			v := parsed(t, l)
			delete(v, "time")
			text := quoted(t, map[string]any{"jsonPayload": v, "timestamp": stamp(l), "resource": map[string]any{"labels": map[string]string{"pod_name": "web-9"}}})
			return strings.ReplaceAll(text, `"seq":1,`, `"seq":1.0,`)
		},
		"google cloud, text": func(l string) string {
			return quoted(t, map[string]any{"textPayload": l, "timestamp": stamp(l), "resource": map[string]any{"labels": map[string]string{"pod_name": "web-9"}}})
		},
		"gcloud, many lines": func(l string) string {
			v := parsed(t, l)
			text, err := json.MarshalIndent([]any{map[string]any{"jsonPayload": v, "resource": map[string]any{"labels": map[string]string{"pod_name": "web-9"}}}}, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		},
	}
}

func drainsOf(t *testing.T, text string) ([]*rollout.Drain, rollout.Passed) {
	t.Helper()
	r := &rollout.Reader{}
	if err := r.Read("stdin", strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	return r.Drains(), r.Passed()
}

func TestWhatCollectorsKeepIsRead(t *testing.T) {
	lines := oneDrain(t)
	plain, _ := drainsOf(t, strings.Join(lines, "\n"))
	if len(plain) != 1 {
		t.Fatalf("%d drains", len(plain))
	}
	want := quoted(t, plain[0])
	for name, wrap := range wrappers(t) {
		for _, backwards := range []bool{false, true} {
			var all []string
			for _, line := range lines {
				all = append(all, wrap(line))
			}
			if backwards && !strings.Contains(name, "cut") { // parts of lines have an order
				slices.Reverse(all)
			}
			got, passed := drainsOf(t, "hello {world\n"+strings.Join(all, "\n")+"\n")
			if len(got) != 1 || passed.Broken != 0 || passed.Others != 1 {
				t.Errorf("%s, backwards %v: %d drains, %+v", name, backwards, len(got), passed)
				continue
			}
			if strings.Contains(all[0], "web-9") && got[0].Pod != "web-9" {
				t.Errorf("%s: pod %s", name, got[0].Pod)
			}
			got[0].Pod = plain[0].Pod
			if text := quoted(t, got[0]); text != want {
				t.Errorf("%s, backwards %v:\n%s\nwant\n%s", name, backwards, text, want)
			}
		}
	}
}

func TestMixedShapesAreOneLog(t *testing.T) {
	lines, i := oneDrain(t), 0
	var all []string
	names := wrappers(t)
	for _, line := range lines {
		for _, name := range []string{"docker", "containerd", "elasticsearch's hits", "file"}[i%4 : i%4+1] {
			all = append(all, names[name](line), "GET /metrics 200", `{"level":"info","msg":"listening"}`)
			i++
		}
	}
	plain, _ := drainsOf(t, strings.Join(lines, "\n"))
	got, passed := drainsOf(t, strings.Join(all, "\n"))
	if len(got) != 1 || quoted(t, got) != quoted(t, plain) || passed != (rollout.Passed{Others: 2 * len(lines)}) {
		t.Errorf("%d drains, %+v", len(got), passed)
	}
}

func TestWhatCannotBeReadIsCounted(t *testing.T) {
	lines := oneDrain(t)
	broken := []string{
		lines[0][:120], // cut off
		`{"log":"` + strings.ReplaceAll(lines[0][:100], `"`, `\"`) + `\n","stream":"stderr","time":"x"}`, // cut inside
		`{"msg":"drain","seq":"one","elapsed_ms":1}`,                                                     // changed
		"2026-11-23T09:30:00Z stderr P " + lines[0][:90],                                                 // its end never came
	}
	for i, one := range broken {
		got, passed := drainsOf(t, one+"\n"+strings.Join(lines, "\n")+"\n")
		if len(got) != 1 || got[0].Verdict == nil || passed.Broken != 1 {
			t.Errorf("%d: %d drains, %+v", i, len(got), passed)
		}
	}
	got, passed := drainsOf(t, fmt.Sprintf("[\n  {\n%s\n", lines[1][:60]))
	if len(got) != 0 || passed.Broken+passed.Others == 0 {
		t.Errorf("never closed: %d drains, %+v", len(got), passed)
	}
}
