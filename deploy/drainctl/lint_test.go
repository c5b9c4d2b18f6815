package main

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"

	"github.com/drain-agent/drain-agent/deploy/internal/lint"
)

const twoWebs = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    spec:
      terminationGracePeriodSeconds: 30
      containers:
      - name: web
        image: registry.example/web:1
        ports: [{name: http, containerPort: 8080}]
        lifecycle: {preStop: {exec: {command: [sh, -c, "sleep 40 && nginx -s quit"]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: other}
spec:
  template:
    spec:
      containers:
      - name: web
        image: registry.example/web:1
        ports: [{name: http, containerPort: 8080}]
---
apiVersion: example.com/v1
kind: Bakery
metadata: {name: oven}
spec: {template: {spec: {containers: [{name: bread, image: registry.example/bread:1}]}}}
`

// inFolder writes files into a fresh folder and goes there.
func inFolder(t *testing.T, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

func TestLintGroupsByWorkloadAndSumsUp(t *testing.T) {
	inFolder(t, map[string]string{"a.yaml": twoWebs})
	code, out, said := drainctl(t, "", "lint", "-f", "a.yaml")
	want := `a.yaml: Deployment shop/web
  line 9   warning  no-readiness-probe  container web serves, and nothing says when it can answer
  line 12  error    sleep-over-grace    container web: sleeps 40s of a grace period of 30s, and what the hook does besides never gets its turn
a.yaml: Deployment other/web
  line 21  warning  no-prestop          container web serves and has no preStop hook
  line 21  warning  no-readiness-probe  container web serves, and nothing says when it can answer

4 findings in 2 objects of 2 workloads, error: 1, warning: 3; advice, see --advice: 5; not judged: 1
not judged: a.yaml:25: Bakery default/oven: drainctl does not know this kind; it knows CloneSet, CronJob, DaemonSet, Deployment, DeploymentConfig, Job, Pod, PodTemplate, ReplicaSet, ReplicationController, Rollout, StatefulSet
what they mean and how to mend them: --explain, or https://github.com/drain-agent/drain-agent/blob/main/docs/reference/lint-rules.md
`
	if code != exitFindings || out != want {
		t.Errorf("%d %s\n%s", code, said, out)
	}
	_, out, _ = drainctl(t, "", "lint", "-f", "a.yaml", "--explain")
	if !strings.Contains(out, "\n    fix: Shorten the sleep") || !strings.Contains(out, "lint-rules.md#sleep-over-grace\n") {
		t.Errorf("explained:\n%s", out)
	}
	_, out, _ = drainctl(t, "", "lint", "-f", "a.yaml", "--advice")
	if !strings.Contains(out, " advice   grace-default ") || strings.Contains(out, "see --advice") {
		t.Errorf("with advice:\n%s", out)
	}
	if code, _, _ := drainctl(t, "", "lint", "-f", "a.yaml", "--fail-on=advice"); code != exitFindings {
		t.Errorf("--fail-on=advice: %d", code)
	}
}

func TestWhatCannotBeReadDoesNotHideTheRest(t *testing.T) {
	code, out, said := drainctl(t, twoWebs+"---\nkind: [\n", "lint", "-f", "-")
	if code != exitUsage || !strings.Contains(out, "sleep-over-grace") || !strings.Contains(out, "not everything could be read") || !strings.Contains(said, "document 4") {
		t.Errorf("%d %s\n%s", code, said, out)
	}
}

func TestSilencesNeedAReason(t *testing.T) {
	inFolder(t, map[string]string{"a.yaml": twoWebs, "b.yaml": strings.ReplaceAll(twoWebs, "metadata: {name: web, namespace: other}", "metadata: {name: web, namespace: other, annotations: {lint.drain-agent.io/no-prestop: the balancer is told by hand, lint.drain-agent.io/no-readiness-probe: \"\"}}")})
	_, out, _ := drainctl(t, "", "lint", "-f", "b.yaml")
	if strings.Contains(out, "no-prestop ") || !strings.Contains(out, "no-readiness-probe is silenced without a reason") || !strings.Contains(out, "silenced with a reason: 1") {
		t.Errorf("annotations:\n%s", out)
	}
	if err := os.WriteFile(".drainctl.yaml", []byte("lint:\n  silence:\n  - rule: no-readiness-probe\n    reason: a probe would cost money\n  - {rule: sleep-over-grace, object: Deployment w*, file: a.yaml, reason: nginx ends by itself}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	code, out, _ := drainctl(t, "", "lint", "-f", "a.yaml", "--fail-on=error")
	if code != exitOK || !strings.Contains(out, "1 finding in 1 object of 2 workloads, warning: 1; silenced with a reason: 3;") {
		t.Errorf("configuration: %d\n%s", code, out)
	}
	if _, out, _ := drainctl(t, "", "lint", "-f", "b.yaml"); !strings.Contains(out, "sleep-over-grace") {
		t.Errorf("another file is silenced too:\n%s", out)
	}
	for text, want := range map[string][]string{
		"lint: {silence: [{rule: no-prestop}]}\n":                         {"broken.yaml:1: no-prestop is silenced without a reason; add reason:"},
		"lint:\n  silence:\n  - {rule: never, reason: x}\n  - [x]\n":      {"broken.yaml:3: there is no rule \"never\"", "broken.yaml:4: a silence has a rule and a reason; write lint:"},
		"lint: {silence: [{rule: no-prestop, reason: x, until: y}]}\n":    {"broken.yaml:1: until is not known here; write lint:"},
		"lint: {silence: [{rule: no-prestop, reason: x, file: \"[\"}]}\n": {"broken.yaml:1: file: \"[\" is no pattern"},
		"silence: []\n": {"broken.yaml:1: no list of silences; write lint:"},
		"lint: [\n":     {"broken.yaml: cannot be read as YAML: line "},
	} {
		if err := os.WriteFile("broken.yaml", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		code, _, said := drainctl(t, "", "lint", "-f", "a.yaml", "--config=broken.yaml")
		for _, one := range want {
			if code != exitUsage || !strings.Contains(said, one) {
				t.Errorf("%q: %d %s, want %s", text, code, said, one)
			}
		}
	}
	if code, _, said := drainctl(t, "", "lint", "-f", "a.yaml", "--config=nowhere.yaml"); code != exitUsage || !strings.Contains(said, "nowhere.yaml") {
		t.Errorf("a configuration that is missing: %d %s", code, said)
	}
}

func TestLintForMachines(t *testing.T) {
	inFolder(t, map[string]string{"a,b.yaml": twoWebs})
	_, out, _ := drainctl(t, "", "lint", "-f", "a,b.yaml", "-o", "sarif")
	report, err := sarif.FromString(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Validate(); err != nil {
		t.Errorf("the schema of SARIF 2.1.0: %v", err)
	}
	run := report.Runs[0]
	if len(run.Results) != 4 || len(run.Tool.Driver.Rules) != len(lint.Rules()) || *run.Results[1].RuleID != "sleep-over-grace" || run.Results[1].Level != "error" ||
		*run.Results[1].Locations[0].PhysicalLocation.Region.StartLine != 12 || *run.Results[1].Locations[0].PhysicalLocation.ArtifactLocation.URI != "a,b.yaml" {
		t.Errorf("sarif: %s", out)
	}
	_, out, _ = drainctl(t, "", "lint", "-f", "a,b.yaml", "-o", "github")
	if !strings.Contains(out, "::error file=a%2Cb.yaml,line=12,title=drainctl sleep-over-grace%3A Deployment shop/web::container web: sleeps 40s") || strings.Count(out, "\n::") != 3 {
		t.Errorf("github:\n%s", out)
	}
	_, out, _ = drainctl(t, "", "lint", "-f", "a,b.yaml", "-o", "junit", "--fail-on=error")
	var suite junitSuite
	if err := xml.Unmarshal([]byte(out), &suite); err != nil || suite.Tests != 4 || suite.Failures != 1 || suite.Skipped != 3 || suite.Cases[1].Failure == nil || suite.Cases[0].Skipped == nil {
		t.Errorf("junit: %v\n%s", err, out)
	}
	_, out, _ = drainctl(t, strings.Split(twoWebs, "---")[2], "lint", "-f", "-", "-o", "junit")
	if !strings.Contains(out, `tests="0" failures="0"`) {
		t.Errorf("junit of nothing: %s", out)
	}
	one := "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: registry.example/a:1}]}\n"
	_, out, _ = drainctl(t, one, "lint", "-f", "-", "-o", "junit")
	if !strings.Contains(out, `tests="1" failures="0"`) || !strings.Contains(out, `<testcase classname="-" name="Pod default/a"></testcase>`) {
		t.Errorf("junit of a pod that passes: %s", out)
	}
	var found []lintFinding
	_, out, _ = drainctl(t, "", "lint", "-f", "a,b.yaml", "-o", "json")
	if err := json.Unmarshal([]byte(out), &found); err != nil || len(found) != 4 || found[2].Namespace != "other" {
		t.Errorf("json: %v\n%s", err, out)
	}
}

type lintFinding struct{ Rule, Namespace string }

// Every error tells a person where and what, in words of manifests: no type of a programming language, no words of a library.
func TestErrorsAreForPeople(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"
	for text, want := range map[string]string{
		pod + "spec:\n  containers: {name: a}\n":                                                "-:5: document 1: Pod a: spec.containers is a mapping, should be a list",
		pod + "spec:\n  containers:\n  - name: [a]\n":                                           "-:6: document 1: Pod a: spec.containers.name is a list, should be a text",
		pod + "spec:\n  terminationGracePeriodSeconds: 30s\n  containers: []\n":                 "-:5: document 1: Pod a: spec.terminationGracePeriodSeconds is a text, should be a number",
		pod + "spec:\n  hostNetwork: \"yes\"\n  containers: []\n":                               "should be true or false",
		pod + "spec:\n  containers:\n  - {name: a, livenessProbe: {httpGet: {port: {a: b}}}}\n": "-:",
		pod + "spec: {containers: [{name: a, resources: {limits: {cpu: lots}}}]}\n":             "-:",
		"---\n" + pod + "---\na: [\n":                                                           "-:6: document 2: ",
		"{\"kind\": \"Pod\", \"spec\": {\"containers\": 5}}\n":                                  "-:1: document 1: Pod",
		"a: {{ .Values.x }}\n":                                                                  "render it first",
		"kind: Pod\nkind: Pod\n":                                                                "-:2: document 1: ",
	} {
		code, _, said := drainctl(t, text, "lint", "-f", "-")
		if code != exitUsage || !strings.Contains(said, want) {
			t.Errorf("%q: %d %s want %s", text, code, said, want)
		}
		for _, word := range []string{"v1.", "json:", "unmarshal", "*", "!!", "Go struct", "interface", "map["} {
			if strings.Contains(said, word) {
				t.Errorf("%q: %q in %s", text, word, said)
			}
		}
	}
}

// Recorded stops, of a controller and of logs, are held against the workloads that they are of.
func TestLintBesideRecordedStops(t *testing.T) {
	inFolder(t, map[string]string{
		"a.yaml": twoWebs,
		"token":  "s3cr3t",
		"log":    stopLine("other", "web-6d4cf56db6-abcde", 31_500) + stopLine("other", "web-db-6d4cf56db6-abcde", 99_000) + stopLine("third", "web-6d4cf56db6-abcde", 99_000),
	})
	for _, row := range []struct {
		from string
		line int
		want string
	}{
		{ledgerOf(t, []string{row("clean", "20000", "[]"), row("clean", "21500", "[]"), row("unknown", "null", "null")}), 7, "the longest of 2 recorded stops needs 30.5s"},
		{ledgerOf(t, []string{row("deadline", "28000", "[]")}), 7, "was cut short: it needs more than 30s"},
		{"log", 19, "the longest of 1 recorded stops needs 40.5s"},
		// Its hook was answered when the stages and the margin were all that was left; then the app ended soon.
		{ledgerOf(t, []string{row("deadline", "22500", "[]")}), 7, "was cut short: it needs more than 30s"},
		{ledgerOf(t, []string{strings.Replace(row("deadline", "22500", `[],"phases":{"draining":20997,"stopping":1503}`), `"grace_period_s":30`, `"grace_period_s":null`, 1)}), 7, "was cut short: it needs more than 30s"},
		{ledgerOf(t, []string{row("clean", "26000", `[],"phases":{"draining":25000,"stopping":1000}`)}), 7, "needs 34s"},
	} {
		code, out, said := drainctl(t, "", "lint", "-f", "a.yaml", "--from="+row.from, "--token-file=token", "--fail-on=error", "-o", "json")
		type finding struct {
			Rule, Message string
			Line          int
		}
		var found []finding
		if err := json.Unmarshal([]byte(out), &found); err != nil {
			t.Fatalf("%v %s %s", err, out, said)
		}
		found = slices.DeleteFunc(found, func(f finding) bool { return f.Rule != "stop-over-grace" })
		if code != exitFindings || len(found) != 1 || found[0].Line != row.line || !strings.Contains(found[0].Message, row.want) {
			t.Errorf("%s: %d %s %+v; want line %d, %s", row.from, code, said, found, row.line, row.want)
		}
	}
	if code, _, said := drainctl(t, "", "lint", "-f", "a.yaml", "--from="+ledgerOf(t, nil), "--token-file=token"); code != exitUsage || !strings.Contains(said, "no stop is recorded there") {
		t.Errorf("nothing recorded: %d %s", code, said)
	}
	if code, _, said := drainctl(t, "", "lint", "-f", "-", "--from=-"); code != exitUsage || !strings.Contains(said, "standard input can be one of them") {
		t.Errorf("both from standard input: %d %s", code, said)
	}
}
