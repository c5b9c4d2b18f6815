package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ledgerOf answers like a controller, two rows a page.
func ledgerOf(t *testing.T, rows []string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/drains" || r.URL.Query().Get("pod_stopped") != "true" || r.Header.Get("Authorization") != "Bearer s3cr3t" {
			http.Error(w, `{"errors":["no"]}`, http.StatusForbidden)
			return
		}
		if workload := r.URL.Query().Get("workload"); workload != "" && (workload != "web" || r.URL.Query().Get("kind") != "Deployment" || r.URL.Query().Get("namespace") != "shop") {
			fmt.Fprint(w, `{"drains":[],"next":null}`)
			return
		}
		from := 0
		_, _ = fmt.Sscan(r.URL.Query().Get("after"), &from)
		next := "null"
		if from+2 < len(rows) {
			next = fmt.Sprintf(`"%d"`, from+2)
		}
		fmt.Fprintf(w, `{"drains":[%s],"next":%s}`, strings.Join(rows[from:min(from+2, len(rows))], ","), next)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func row(outcome, total, curve string) string {
	return fmt.Sprintf(`{"namespace":"shop","pod":"web-1","workload":{"kind":"Deployment","name":"web"},"outcome":%q,"total_ms":%s,"grace_period_s":30,"verdict":{"msg":"verdict","outcome":%q,"total_ms":%s,"in_flight_curve":%s}}`, outcome, total, outcome, total, curve)
}

func TestAdviseFromALedger(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cr3t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var rows []string
	for i := range 300 {
		rows = append(rows, row("clean", fmt.Sprint(1000+100*i), `[[0,4],[6000,0]]`))
	}
	address := ledgerOf(t, append(rows, row("unknown", "null", "null")))
	deployment := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  template:\n    spec:\n      terminationGracePeriodSeconds: 30 # as ever\n      containers: [{name: app, image: a}]\n"
	code, out, said := drainctl(t, deployment, "advise", "deploy/web", "-n", "shop", "--from="+address, "--token-file="+token, "-f", "-", "--apply")
	if code != exitOK || out != strings.Replace(deployment, "30 #", "40 #", 1) {
		t.Errorf("%d\n%s\n%s", code, out, said)
	}
	for _, want := range []string{"deployment/web in shop: 300 stops; 1 more left no verdict", "p50 15.9, p95 29.4, p99 30.6, longest 30.9", "grace period of these stops: 30 s", "99 %             40", "95 %\n", "99.9 %           40 (the longest seen)           26 %: it takes 2995 stops", "sleep 5                300 of 300, 99 to 100 % (1 have no curve)       1200", "sleep 15               0 of 300, 0 to 1 %"} {
		if !strings.Contains(said, want) {
			t.Errorf("does not say %q:\n%s", want, said)
		}
	}
	if code, again, _ := drainctl(t, out, "advise", "deploy/web", "-n", "shop", "--from="+address, "--token-file="+token, "-f", "-", "--apply"); code != exitOK || again != out {
		t.Errorf("a second run changes something: %d\n%s", code, again)
	}
	code, out, _ = drainctl(t, "", "advise", "--from="+address, "--token-file="+token, "-o", "json")
	var got struct {
		Method    string
		Workloads []struct {
			Workload string
			Grace    []struct{ Seconds *int64 }
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitOK || got.Method != "curve" || len(got.Workloads) != 1 || *got.Workloads[0].Grace[0].Seconds != 40 {
		t.Errorf("%d %v %s", code, err, out)
	}
	if code, out, said := drainctl(t, "", "advise", "--from="+strings.Replace(address, "http://", "http://u:s3cr3t@", 1)); code != exitUsage || !strings.Contains(said, "403") || strings.Contains(out+said, "s3cr3t") {
		t.Errorf("without the token: %d %s %s", code, out, said)
	}
}

// The stops of a real rollout, from the agents' logs: each at once, with its curve.
func TestAdviseFromLogs(t *testing.T) {
	code, out, said := drainctl(t, "", "advise", "--from=testdata/rollout", "--sleeps=0,1")
	for _, want := range []string{"all pods of the logs: 4 stops\n", "(the longest seen)", "sleep 0                4 of 4", "it takes 299 stops"} {
		if code != exitOK || !strings.Contains(out, want) {
			t.Errorf("%d %s does not say %q:\n%s", code, said, want, out)
		}
	}
}

// A workload whose stops the deadline cut gets no number, and no manifest is changed.
func TestAdviseOnStopsThatWereCutShort(t *testing.T) {
	log := filepath.Join(t.TempDir(), "web-6d4cf56db6-x2x9z.jsonl")
	if err := os.WriteFile(log, []byte(`{"time":"2026-03-01T12:00:00Z","level":"error","msg":"verdict","outcome":"deadline","total_ms":28000,"phases":{},"in_flight_curve":[[0,9],[28000,2]],"cut":{"app":2},"reason":"x"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	deployment := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {spec: {containers: [{name: app, image: a}]}}}\n"
	code, out, said := drainctl(t, deployment, "advise", "deploy/web", "--from="+log, "-f", "-", "--apply")
	if code != exitUsage || out != "" || !strings.Contains(said, "1 stops, 1 of them cut short") || !strings.Contains(said, "more than 37") || !strings.Contains(said, "too many were cut short") {
		t.Errorf("%d %s\n%s", code, out, said)
	}
	if code, _, said := drainctl(t, "", "advise", "web", "-o", "xml", "--share=2", "--sleeps=-1", "--apply", "--recorded=poll=1s", "--try=quiet-max=soon"); code != exitUsage || strings.Count(said, "\n") != 8 {
		t.Errorf("%d %s", code, said)
	}
}

// stopLine is the verdict of a pod that stopped within so many milliseconds, as a collector keeps it where it knows the namespace.
func stopLine(namespace, pod string, ms int) string {
	line := fmt.Sprintf(`{"time":"2026-03-01T12:00:00Z","level":"info","msg":"verdict","outcome":"clean","total_ms":%d,"phases":{},"cut":{},"reason":"x"}`, ms)
	if namespace == "" {
		return "[pod/" + pod + "/drain-agent] " + line + "\n"
	}
	text, _ := json.Marshal(map[string]any{"message": line, "kubernetes": map[string]any{"pod_name": pod, "namespace_name": namespace}}) // plain values always can be
	return string(text) + "\n"
}

// Only pods whose names are those that the workload's kind gives count: another workload's name may begin the same.
func TestAdviseCountsTheWorkloadsOwnPods(t *testing.T) {
	pods := []string{
		"web-6d4cf56db6-abcde", "web-7c9d8f6b5-x2x9z", "web-admin-7c9d8f6b5-xyz12", "web-admin-xyz12", "web-db-xyz12", "web-0", "web-12", "web-admin-0", "web-x2x9z", "web-admin", "webby-6d4cf56db6-abcde", "web",
	}
	for workload, want := range map[string]string{
		"deploy/web": "2 stops", "rollout/web": "2 stops", "sts/web": "2 stops", "ds/web": "1 stops", "deploy/web-admin": "1 stops", "sts/web-admin": "1 stops", "deploy/shop": "",
	} {
		var log strings.Builder
		for _, pod := range pods {
			log.WriteString(stopLine("", pod, 1000))
		}
		code, out, said := drainctl(t, log.String(), "advise", workload, "--from=-")
		if want == "" {
			if code != exitUsage || !strings.Contains(said, "no stop of deploy/shop") || !strings.Contains(said, "left out: web, web-0, web-12 and 9 more") || !strings.Contains(said, "shop-HASH-xxxxx") {
				t.Errorf("%s: %d %s", workload, code, said)
			}
		} else if code != exitOK || !strings.Contains(out, workload+": "+want) || !strings.Contains(said, "left out") {
			t.Errorf("%s: %d %s %s; want %s", workload, code, out, said, want)
		}
	}
}

// Stops of two namespaces are two workloads' stops, -n chooses one, and no manifest gets what may be a mixture.
func TestAdviseKeepsNamespacesApart(t *testing.T) {
	deployment := filepath.Join(t.TempDir(), "web.yaml")
	text := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {spec: {terminationGracePeriodSeconds: 3, containers: [{name: app, image: a}]}}}\n"
	pod := "web-6d4cf56db6-abcde" // the same in both: equal templates have equal hashes
	told := stopLine("shop", pod, 40_000) + stopLine("test", pod, 1000) + stopLine("test", "web-6d4cf56db6-x2x9z", 2000)
	for what, row := range map[string]struct {
		log, namespace string
		code           int
		says, file     string
	}{
		"told, not chosen":   {told, "", exitUsage, "stops of 2 workloads", text},
		"told and chosen":    {told, "shop", exitOK, ": 1 stops", strings.Replace(text, "Seconds: 3,", "Seconds: 49,", 1)},
		"told, of another":   {told, "else", exitUsage, "no stop of deploy/web", text},
		"not told":           {stopLine("", pod, 40_000), "shop", exitUsage, "do not tell their namespace", text},
		"not told, nor said": {stopLine("", pod, 40_000), "", exitOK, ": 1 stops", strings.Replace(text, "Seconds: 3,", "Seconds: 49,", 1)},
		"some told":          {told + stopLine("", pod, 90_000), "shop", exitUsage, "stops of 2 workloads", text},
	} {
		if err := os.WriteFile(deployment, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"advise", "deploy/web", "--from=-", "-f", deployment, "--apply"}
		if row.namespace != "" {
			args = append(args, "-n", row.namespace)
		}
		code, out, said := drainctl(t, row.log, args...)
		if got := readText(t, deployment); code != row.code || !strings.Contains(out+said, row.says) || got != row.file {
			t.Errorf("%s: %d\n%s%s\n%s", what, code, out, said, got)
		}
	}
}

// recordedStop is the verdict of a stop with a pool of clients that come back every three seconds, told to leave when they do; its first hook
// was answered 10 s after the last of them came, as the stopping score asks.
func recordedStop(pod string, last int) string {
	arrivals := fmt.Sprintf("[[0,0,0,5],[1000,1,0,4],[2000,2,0,3],[2900,3,0,2],[%d,3,0,2],[%d,4,0,1],[%d,4,0,1]]", last-50, last, last+10_350)
	return "[pod/" + pod + "/drain-agent] " + fmt.Sprintf(`{"time":"2026-03-01T12:00:00Z","level":"info","msg":"verdict","outcome":"clean","total_ms":%d,"phases":{"confirming":0,"announcing":500,"draining":%d,"settling":200,"stopping":150},"in_flight_curve":[[0,0],[%d,0]],"cut":{},"reason":"x","arrivals_curve":%s,"requests_per_second":1.6}`,
		last+10_350, last+9500, last+10_350, arrivals) + "\n"
}

// Stops whose verdicts carry what came are replayed under other settings: as a table, for a terminal, as a picture. What was recorded under
// settings that nobody named is left out and said.
func TestAdviseReplaysStops(t *testing.T) {
	var log strings.Builder
	for i := range 40 {
		log.WriteString(recordedStop(fmt.Sprintf("web-6d4cf56db6-%05d", i), 4000+20*i))
	}
	log.WriteString(stopLine("", "web-6d4cf56db6-abcde", 900))
	for output, want := range map[string][]string{
		"table": {"40 of 41 stops replayed; 1 lack what a replay needs", "as recorded 14.4 to 15.3 ", "quiet-max=1s 2.8 to 2.9 ", "0 to 100", "95 %", "accept-loss=1 1.8 to 1.9 "},
		"plot":  {"99% of stops fit into", "seconds of the next stop", "requests that it loses", "quiet-max=1s ", "●", "a confidence of 95 %, of 40 stops"},
		"svg":   {"<svg xmlns", ">deploy/web</text>", "41 stops, 0 cut short, 40 replayed. ", ">as recorded</text>", ">stop-order=proxy,app</text>", "<circle"},
	} {
		code, out, said := drainctl(t, log.String(), "advise", "deploy/web", "--from=-", "-o", output)
		for _, text := range want {
			if code != exitOK || !strings.Contains(strings.Join(strings.Fields(out), " "), text) {
				t.Errorf("%s: %d %s: does not say %q:\n%s", output, code, said, text, out)
			}
		}
	}
	code, out, _ := drainctl(t, log.String(), "advise", "deploy/web", "--from=-", "--recorded=quiet-max=2s")
	if code != exitOK || !strings.Contains(out, "0 of 41 stops replayed; 1 lack what a replay needs; 40 do not come out as they were recorded") {
		t.Errorf("recorded under other settings than is said: %d\n%s", code, out)
	}
	code, out, _ = drainctl(t, log.String(), "advise", "deploy/web", "--from=-", "--try=accept-loss=0.001", "-o", "json")
	var got struct {
		Workloads []struct {
			WhatIf []struct {
				NotOver int                   `json:"not_over"`
				Per100  *[2]int64             `json:"requests_lost_per_100_stops"`
				Took    struct{ High *int64 } `json:"total_ms"`
			} `json:"what_if"`
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitOK || len(got.Workloads[0].WhatIf) != 2 || got.Workloads[0].WhatIf[1].NotOver != 40 || got.Workloads[0].WhatIf[1].Took.High != nil || got.Workloads[0].WhatIf[1].Per100 != nil {
		t.Errorf("longer than what was recorded: %d %v %s", code, err, out)
	}
}

// impossible are a number below nothing and one beyond all.
var impossible = regexp.MustCompile(`(^|[\s:\[>"])-\d|(^|[^.\d])\d{9,}|\d{5,}h|NaN`)

// Verdicts come from pods, and none of them breaks the command or gets into its figures with what nobody can have measured.
func TestAdviseOnVerdictsThatCannotBe(t *testing.T) {
	good := recordedStop("web-6d4cf56db6-abcde", 4000)
	for what, change := range map[string][2]string{
		"less than nothing in flight":  {`"in_flight_curve":[[0,0]`, `"in_flight_curve":[[0,-5]`},
		"more in flight than there is": {`"in_flight_curve":[[0,0]`, `"in_flight_curve":[[0,9000000000000000000]`},
		"less than nothing came":       {`"arrivals_curve":[[0,0,0,5]`, `"arrivals_curve":[[0,-9,0,5]`},
		"a negative time":              {`"total_ms":14350`, `"total_ms":-14350`},
		"a time beyond all":            {`"total_ms":14350`, `"total_ms":10000000000000`},
		"a time at the end of numbers": {`"total_ms":14350`, `"total_ms":9223372036854775807`},
		"phases that do not fit":       {`"draining":13500`, `"draining":9000000000000000000`},
		"a negative phase":             {`"draining":13500`, `"draining":-9000000000000000000`},
	} {
		bad := strings.Replace(strings.Replace(good, change[0], change[1], 1), "abcde", "x2x9z", 1)
		if !strings.Contains(bad, change[1]) {
			t.Fatalf("%s: nothing changed", what)
		}
		for _, output := range []string{"table", "plot", "svg", "json"} {
			code, out, said := drainctl(t, good+bad, "advise", "deploy/web", "--from=-", "-o", output)
			if code != exitOK || impossible.MatchString(out) {
				t.Errorf("%s, %s: %d %s\n%s", what, output, code, said, out)
			}
		}
		code, out, said := drainctl(t, good+bad, "lint", "-f", readable(t, twoWebs), "--from=-", "--fail-on=error")
		if !strings.Contains(out, "no figure") && strings.Contains(out, "recorded stops") && (!strings.Contains(out, "needs 23.35s") || impossible.MatchString(out)) {
			t.Errorf("%s: lint: %d %s %s", what, code, out, said)
		}
	}
}

// readable is a file with that text.
func readable(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// whatIfs are the totals of each setting, as JSON has them, of stops that had a grace period of 14 s.
func whatIfs(t *testing.T, args ...string) map[string]string {
	t.Helper()
	var rows []string
	for range 3 {
		_, line, _ := strings.Cut(recordedStop("web-1", 4000), "agent] ")
		rows = append(rows, fmt.Sprintf(`{"namespace":"shop","pod":"web-1","workload":{"kind":"Deployment","name":"web"},"outcome":"clean","total_ms":14350,"grace_period_s":14,"verdict":%s}`, line))
	}
	token := readable(t, "s3cr3t")
	code, out, said := drainctl(t, "", append([]string{"advise", "--from=" + ledgerOf(t, rows), "--token-file=" + token, "-o", "json"}, args...)...)
	var got struct {
		Workloads []struct {
			WhatIf []struct {
				Settings string
				Took     json.RawMessage `json:"total_ms"`
			} `json:"what_if"`
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitOK {
		t.Fatalf("%d %v %s", code, err, said)
	}
	all := map[string]string{}
	for _, w := range got.Workloads[0].WhatIf {
		all[w.Settings] = string(w.Took)
	}
	return all
}

// A grace period that is named is replayed, one that is the default too; where none is named each stop keeps its own.
func TestAdviseReplaysTheGracePeriodThatIsNamed(t *testing.T) {
	got := whatIfs(t, "--recorded=grace-period=60s", "--try=grace-period=30s", "--try=grace-period=14s", "--try=settle=200ms")
	if got["grace-period=30s"] != got["as recorded"] || got["settle=200ms"] != got["as recorded"] || got["grace-period=14s"] == got["as recorded"] {
		t.Errorf("%v", got)
	}
}

// The agent's own shares and margin hold for replays too.
func TestAdviseReplaysWithTheStagesOfThePods(t *testing.T) {
	tries := []string{"--recorded=grace-period=60s", "--try=grace-period=14s"}
	all := whatIfs(t, tries...)
	for _, more := range []string{"--stages=2s", "--margin=7s"} {
		got := whatIfs(t, append(tries, more)...)
		if got["as recorded"] != all["as recorded"] || got["grace-period=14s"] == all["grace-period=14s"] {
			t.Errorf("%s: %v, without it %v", more, got, all)
		}
	}
}

// However many stops there are, the newest thousand are replayed, and that is said; none where only a number is to be written.
func TestAdviseReplaysTheNewest(t *testing.T) {
	var log strings.Builder
	for i := range 1003 {
		line := recordedStop(fmt.Sprintf("web-6d4cf56db6-%05d", i), 4000)
		if i >= 3 {
			line = strings.Replace(line, "2026-03-01", "2026-03-02", 1)
		} else {
			line = strings.Replace(line, `"draining":13500`, `"draining":1`, 1) // would not come out as it was
		}
		log.WriteString(line)
	}
	code, out, said := drainctl(t, log.String(), "advise", "deploy/web", "--from=-", "--try=quiet-max=1s")
	if code != exitOK || !strings.Contains(out, "1000 of 1003 stops replayed; 3 are older than the newest 1000\n") {
		t.Errorf("%d %s\n%s", code, said, out)
	}
	deployment := readable(t, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {spec: {containers: [{name: app, image: a}]}}}\n")
	args := []string{"advise", "deploy/web", "--from=-", "--apply", "-f", deployment}
	if code, out, said := drainctl(t, recordedStop("web-6d4cf56db6-abcde", 4000), args...); code != exitOK || strings.Contains(out+said, "other settings") || !strings.Contains(out+said, "longest seen") {
		t.Errorf("replayed without need: %d %s %s", code, out, said)
	}
	if code, out, said := drainctl(t, recordedStop("web-6d4cf56db6-abcde", 4000), append(args, "--try=quiet-max=1s")...); code != exitOK || !strings.Contains(out, "other settings: 1 of 1") {
		t.Errorf("asked for: %d %s %s", code, out, said)
	}
}

// All that is wrong is said at once, each with its flag.
func TestAdviseSaysAllThatIsWrong(t *testing.T) {
	for _, row := range []struct {
		args []string
		want []string
	}{
		{[]string{"advise", "--from=nofile", "--try=foo=1 bar=2", "--margin=-1s", "--stages=-1s", "--output=xml"}, []string{"--from=nofile", "--try: foo=1", "--try: bar=2", "--margin=-1s", "--stages=-1s", "--output=xml"}},
		{[]string{"lint", "-f", "nomanifest", "--from=nofile", "--margin=-1s", "--stages=-1s", "--output=xml", "--fail-on=never", "--config=nosuch"}, []string{"--from=nofile", "--margin=-1s", "--stages=-1s", "--output=xml", "--fail-on", "--config"}},
		{[]string{"lint", "-f", "nomanifest", "--from="}, []string{"--from="}},
		{[]string{"advise", "--from="}, []string{"--from="}},
	} {
		code, _, said := drainctl(t, "", row.args...)
		for _, want := range row.want {
			if code != exitUsage || !strings.Contains(said, want) {
				t.Errorf("%v: %d %s does not say %s", row.args, code, said, want)
			}
		}
	}
}
