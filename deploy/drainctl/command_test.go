package main

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/deploy/internal/lint"
)

// drainctl runs one command line.
func drainctl(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(append([]string{"drainctl"}, args...), strings.NewReader(stdin), &out, &err)
	return code, out.String(), err.String()
}

func TestInjectInPlaceAndBack(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("testdata/web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "web.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, said := drainctl(t, "", "inject", "-f", dir, "-w"); code != exitOK || out != "" || !strings.Contains(said, "Envoy envoy a regular container (image envoyproxy/envoy:v1.40.0)") {
		t.Fatalf("inject: %d %s%s", code, out, said)
	}
	once := readText(t, path)
	if !strings.Contains(once, "--propagation=5s") || !strings.Contains(once, "# answers on 8080") {
		t.Errorf("injected:\n%s", once)
	}
	if code, _, said := drainctl(t, "", "inject", "-q", "-f", path, "-w"); code != exitOK || said != "" || readText(t, path) != once {
		t.Errorf("the second run changes something (%d %s)", code, said)
	}
	if code, diff, _ := drainctl(t, "", "inject", "-q", "-f", path, "--diff"); code != exitOK || diff != "" {
		t.Errorf("the diff of a second run: %d %s", code, diff)
	}
	if code, out, said := drainctl(t, once, "uninject", "-f", "-"); code != exitOK || out != string(text) {
		t.Errorf("uninject: %d %s%s", code, out, said)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the file: %v %v", info.Mode(), err)
	}
}

// A file is replaced as a whole: whoever still reads it reads the old one to its end. A link stays a link.
func TestInPlaceReplacesAtOnce(t *testing.T) {
	elsewhere, dir := filepath.Join(t.TempDir(), "web.yaml"), t.TempDir()
	before := readText(t, "testdata/web.yaml")
	if err := os.WriteFile(elsewhere, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "web.yaml")
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	reader, err := os.Open(link)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if code, _, said := drainctl(t, "", "inject", "-f", link, "-w"); code != exitOK {
		t.Fatalf("inject: %d %s", code, said)
	}
	if text, err := io.ReadAll(reader); err != nil || string(text) != before {
		t.Errorf("somebody who had it open reads %v\n%s", err, text)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink || !strings.Contains(readText(t, elsewhere), "drain-agent") {
		t.Errorf("the link or its target was not kept: %v %v", info, err)
	}
	for _, in := range []string{dir, filepath.Dir(elsewhere)} {
		if left, err := os.ReadDir(in); err != nil || len(left) != 1 {
			t.Errorf("left in %s: %v %v", in, left, err)
		}
	}
}

func TestOneErrorAndNothingIsWritten(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.yaml": readText(t, "testdata/web.yaml"), "b.yaml": "kind: Pod\nspec: {containers: 7}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	code, out, said := drainctl(t, "", "inject", "-f", dir, "-w")
	if code != exitUsage || out != "" || !strings.Contains(said, "b.yaml:") || strings.Contains(readText(t, filepath.Join(dir, "a.yaml")), "drain-agent") {
		t.Errorf("%d %s%s", code, out, said)
	}
	asJSON := filepath.Join(dir, "c.json")
	if err := os.WriteFile(asJSON, []byte(`{"kind": "Pod", "spec": {"containers": [{"name": "envoy", "image": "envoy"}]}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"inject"}, {"inject", "-f", "nowhere.yaml"}, {"inject", "-w", "-f", asJSON}, {"inject", "-f", dir, "-w", "--diff"}, {"lint", "-f", dir, "-o", "xml"}, {"lint", "-f", dir, "--fail-on=all"}, {"timeline", "-o", "png"}, {"budget", "--", "--preset=f5"}, {"budget", "--", "--grace-period=0s"}, {"nothing"}} {
		if code, _, said := drainctl(t, "", args...); code != exitUsage || !strings.HasPrefix(said, "drainctl: ") {
			t.Errorf("%v: %d %s", args, code, said)
		}
	}
}

func TestLintExitCodesAndJSON(t *testing.T) {
	bad, good := "../manifests/bad-service.yaml", "../manifests/native.yaml"
	if code, out, _ := drainctl(t, "", "lint", "-f", good, "--fail-on=advice"); code != exitOK || !strings.HasPrefix(out, "0 findings in 0 objects of 1 workload\n") {
		t.Errorf("good: %d %s", code, out)
	}
	code, out, _ := drainctl(t, "", "lint", "-f", bad, "-o", "json")
	var found []struct{ Rule, Severity, File, Object, Message, Why, Fix, Docs string }
	if err := json.Unmarshal([]byte(out), &found); err != nil || code != exitFindings || len(found) == 0 {
		t.Fatalf("bad: %d %v %s", code, err, out)
	}
	for _, f := range found {
		if f.Rule == "" || f.Severity == "" || f.File != bad || f.Message == "" || f.Why == "" || f.Fix == "" || f.Docs != lint.Docs+"#"+f.Rule {
			t.Errorf("%+v", f)
		}
	}
	if code, out, _ := drainctl(t, "", "lint", "-f", bad, "--fail-on=error"); code != exitFindings || !regexp.MustCompile(`error +proxy-races-app`).MatchString(out) {
		t.Errorf("text: %d %s", code, out)
	}
	if code, out, _ := drainctl(t, "", "lint", "-f", good, "-o", "json"); code != exitOK || out != "[]\n" {
		t.Errorf("nothing found: %d %s", code, out)
	}
}

func TestBudgetIsDrawnToScale(t *testing.T) {
	_, out, _ := drainctl(t, "", "budget", "--", "--grace-period=60s", "--stop=app=30s")
	for _, want := range []string{"propagation         1.5 s    2 % | █ ", "stop app             30 s   50 %", "10 s +    20 s +     5 s = 35 s", "= 65 s", "= 160 s", "26 s +    32 s +     2 s = 60 s", "change: nothing"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for line := range strings.SplitSeq(out, "\n") {
		if strings.Contains(line, "stop app ") && strings.Count(line, "█") != 30 {
			t.Errorf("half of the grace period is %d of 60 columns", strings.Count(line, "█"))
		}
	}
	if _, out, _ := drainctl(t, "", "budget", "--", "--preset=alb", "--grace-period=20s"); !strings.Contains(out, "raise the grace period to 95 s") {
		t.Errorf("too short:\n%s", out)
	}
	agents := 0
	manifests, _ := filepath.Glob("../manifests/*.yaml") // none: found below
	for _, path := range manifests {
		agents += strings.Count(readText(t, path), "- --grace-period=")
	}
	if code, out, _ := drainctl(t, "", "budget", "-f", "../manifests"); code != exitOK || agents < 5 || strings.Count(out, "worst case") != agents {
		t.Errorf("our manifests: %d, %d agents\n%s", code, agents, out)
	}
	if _, out, _ := drainctl(t, "", "budget", "--presets"); !strings.Contains(out, "aws-load-balancer-controller 2366") {
		t.Errorf("presets:\n%s", out)
	}
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
