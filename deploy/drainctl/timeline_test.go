package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const golden = "../../agent/timeline/testdata/golden.jsonl"

func TestTimelineOfAFile(t *testing.T) {
	code, out, said := drainctl(t, "", "timeline", golden, "--width=80")
	for _, want := range []string{"pod golden", "drain of 2026-11-23 09:30:00 UTC", "2 pod stops, 1 without a verdict", "p50 8.4 s, p95 26.9 s", "clean 1, deadline 1", "not countable in 1"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %d %s\n%s", want, code, said, out)
		}
	}
	if code, _, said := drainctl(t, "no line of ours\n", "timeline"); code != exitUsage || !strings.Contains(said, "no line of a drain") {
		t.Errorf("%d %s", code, said)
	}
}

func TestTimelineAsJSON(t *testing.T) {
	_, out, _ := drainctl(t, readText(t, golden), "timeline", "-o", "json", "-")
	var got struct {
		Drains []struct {
			Pod     string
			Events  []map[string]any
			Verdict map[string]any
		}
		Rollout struct {
			Stops, Unfinished, Cut int
			P95MS                  int `json:"p95_ms"`
			Unknown                int `json:"arrivals_unknown"`
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if r := got.Rollout; len(got.Drains) != 3 || r.Stops != 2 || r.Unfinished != 1 || r.Cut != 3 || r.P95MS != 26903 || r.Unknown != 1 {
		t.Errorf("%+v", got.Rollout)
	}
	if got.Drains[0].Pod != "stdin" || len(got.Drains[0].Events) == 0 || got.Drains[2].Verdict != nil {
		t.Errorf("%+v", got.Drains)
	}
}

// fakeKubectl writes a kubectl that prints the golden log as pod web-1, mixed with another pod's, and what it was asked.
func fakeKubectl(t *testing.T, fails bool) (asked string) {
	t.Helper()
	dir := t.TempDir()
	log, err := filepath.Abs(golden)
	if err != nil {
		t.Fatal(err)
	}
	asked = filepath.Join(dir, "asked")
	script := fmt.Sprintf("#!/bin/sh\necho \"$@\" >> %s\nwhile read -r line; do\n  printf '[pod/web-1/drain-agent] %%s\\n[pod/web-2/drain-agent] %%s\\n' \"$line\" \"$line\"\ndone < %s\n", asked, log)
	if fails {
		script += "echo pod web-3 is gone >&2\nexit 1\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return asked
}

func TestTimelineThroughKubectl(t *testing.T) {
	asked := fakeKubectl(t, false)
	code, out, said := drainctl(t, "", "timeline", "-l", "app=web", "-n", "shop", "-f", "--width=80", "--", "--context=east")
	if code != exitOK || !strings.Contains(out, "4 pod stops, 2 without a verdict") || strings.Count(out, "pod web-2\n") != 2 || !strings.Contains(out, "web-1 ") {
		t.Errorf("%d %s\n%s", code, said, out)
	}
	if got := readText(t, asked); !strings.Contains(got, "logs --prefix --tail=-1 --container=drain-agent --follow=true --namespace=shop --selector=app=web --max-log-requests=200 --context=east") {
		t.Errorf("kubectl was asked %s", got)
	}
	asked = fakeKubectl(t, true)
	code, out, said = drainctl(t, "", "timeline", "-p", "web-1", "-p", "pod/web-2", "-o", "table")
	if code != exitUsage || !strings.Contains(out, "pod stops") || !strings.Contains(said, "web-3 is gone") || strings.Count(readText(t, asked), "pod/web-") != 2 {
		t.Errorf("a pod that is gone hides the others: %d %s\n%s", code, said, out)
	}
}

func TestPageStandsAlone(t *testing.T) {
	hostile := strings.ReplaceAll(readText(t, golden), "every hook was answered", `<script>alert(1)</script>`)
	_, out, _ := drainctl(t, hostile, "timeline", "-o", "html")
	for _, want := range []string{"<!doctype html>", "2 pod stops", "<polyline class=\"line\" points=\"", `class="draining"`, `class="blind"`, "drain_listeners", "</html>"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	if m := regexp.MustCompile(`<script|https?://|\bsrc=|@import|url\(|NaN|\+Inf`).FindString(out); m != "" {
		t.Errorf("the page holds %q", m)
	}
}
