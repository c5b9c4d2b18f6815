package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/app/api"
	"github.com/drain-agent/drain-agent/app/internal/apptest"
	"github.com/drain-agent/drain-agent/scripts/freeport"
)

const observability = "../deploy/observability"

// expr is a PromQL expression and where it stands.
type expr struct{ where, text string }

// expressions reads every expression of the rules and of the dashboards, with the dashboards' variables filled in.
func expressions(t *testing.T) (all []expr, alerts []string) {
	t.Helper()
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Record, Expr string }
		}
	}
	read(t, filepath.Join(observability, "rules.yaml"), &rules)
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			all = append(all, expr{r.Alert + r.Record, r.Expr})
			alerts = append(alerts, r.Alert+r.Record)
		}
	}
	boards, err := filepath.Glob(filepath.Join(observability, "dashboards", "*.json"))
	if err != nil || len(boards) == 0 {
		t.Fatalf("dashboards: %v %v", boards, err)
	}
	for _, file := range boards {
		var board struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		read(t, file, &board)
		for _, p := range board.Panels {
			for _, target := range p.Targets {
				for _, rto := range []string{"900", "15"} {
					text := strings.NewReplacer("$rto", rto, "$__range", "1h", "$__rate_interval", "5m").Replace(target.Expr)
					if e := (expr{p.Title, text}); !slices.Contains(all, e) {
						all = append(all, e)
					}
				}
			}
		}
	}
	return all, alerts
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// tool finds a program of Debian's package "prometheus".
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: apt-get install prometheus", err)
	}
	return path
}

// promtool's unit tests pass, and leave out no rule and no panel.
func TestRulesAndDashboards(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", "rules.yaml"}, {"test", "rules", "rules_test.yaml"}} {
		cmd := exec.CommandContext(t.Context(), tool(t, "promtool"), args...)
		cmd.Dir = observability
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	var tests struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `json:"exp_alerts"`
			} `json:"alert_rule_test"`
			PromqlExprTest []struct{ Expr string } `json:"promql_expr_test"`
		}
	}
	read(t, filepath.Join(observability, "rules_test.yaml"), &tests)
	fires, quiet, evaluated := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, test := range tests.Tests {
		for _, a := range test.AlertRuleTest {
			if len(a.ExpAlerts) > 0 {
				fires[a.Alertname] = true
			} else {
				quiet[a.Alertname] = true
			}
		}
		for _, p := range test.PromqlExprTest {
			evaluated[p.Expr] = true
		}
	}
	all, rules := expressions(t)
	for _, e := range all {
		if slices.Contains(rules, e.where) {
			if !evaluated[e.where] && (!fires[e.where] || !quiet[e.where]) {
				t.Errorf("%s is not tested both ways", e.where)
			}
		} else if !evaluated[e.text] {
			t.Errorf("panel %q is not tested: %s", e.where, e.text)
		}
	}
}

var metricName = regexp.MustCompile(`\b(?:drain_agent|service|data|last|bank|is|active)_[a-z_]+[a-z]`)

// A real Prometheus that scraped the real service through a crash, a recovery and found damage, and the real agent,
// answers every expression, and knows every metric that is named in them.
func TestExpressionsOnARealPrometheus(t *testing.T) {
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "books.db")
	app := apptest.New(t, binary(t), "--store="+dsn, "--reconcile-every=1s")
	app.Start()
	app.Ready()
	prometheus := startPrometheus(t, app.Mgmt, startAgent(t))
	has := func(query string) bool {
		for _, v := range prometheus.query(t, query) {
			if v != "NaN" && v != "0" {
				return true
			}
		}
		return false
	}
	app.Await("the first scrape", func() bool { return has(`service_startup_duration_seconds_count`) })
	if _, err := api.NewPaymentServiceClient(dial(t, app)).ProcessPayment(t.Context(), payment("k", 1)); err != nil {
		t.Fatal(err)
	}
	app.Kill()
	app.Start()
	app.Ready()
	app.Await("the recovery", func() bool { return has(`service_recovery_duration_seconds_count{failure_type="crash"}`) })
	exec1(t, dsn, `update accounts set balance = balance + 7 where id = 'acct-0002'`)
	app.Await("the damage", func() bool {
		return has(`increase(data_inconsistencies_detected_total{inconsistency_type="balance_drift"}[1h])`)
	})

	known := prometheus.names(t)
	all, _ := expressions(t)
	for _, e := range all {
		prometheus.query(t, e.text) // fails the test when it is refused
		for _, name := range metricName.FindAllString(e.text, -1) {
			if !slices.Contains(known, name) {
				t.Errorf("%s: there is no metric %s", e.where, name)
			}
		}
	}
	if v := prometheus.query(t, `100 * sum(increase(service_recovery_duration_seconds_bucket{le=~"900(\\.0)?"}[1h])) / sum(increase(service_recovery_duration_seconds_count[1h]))`); len(v) != 1 || v[0] != "100" {
		t.Errorf("share of recoveries within 900 s: %v, want 100", v)
	}
}

// startAgent runs the real agent without a proxy and returns where its metrics are.
func startAgent(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "drain-agent")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../agent").CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	addr := freeAddr(t)
	background(t, bin, "run", "--listen="+addr, "--control="+filepath.Join(dir, "control.sock"), "--envoy-admin=",
		"--app-source=none", "--hooks=app,agent", "--stop-order=app", "--termination-log="+filepath.Join(dir, "termination"))
	return addr
}

type prom string

func startPrometheus(t *testing.T, targets ...string) prom {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	rules, err := filepath.Abs(filepath.Join(observability, "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("global: {scrape_interval: 200ms, evaluation_interval: 1s}\nrule_files: [%s]\nscrape_configs:\n- {job_name: app, static_configs: [{targets: [%s]}]}\n",
		rules, strings.Join(targets, ", "))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	background(t, tool(t, "prometheus"), "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	return prom("http://" + addr)
}

// query returns the values of an instant query; nil while Prometheus does not answer yet.
func (p prom) query(t *testing.T, text string) (values []string) {
	t.Helper()
	var answer struct {
		Status, Error string
		Data          struct{ Result []struct{ Value [2]any } }
	}
	if !p.get(t, "/api/v1/query?query="+url.QueryEscape(text), &answer) {
		return nil
	}
	if answer.Status != "success" {
		t.Errorf("%s: %s", text, answer.Error)
	}
	for _, r := range answer.Data.Result {
		values = append(values, fmt.Sprint(r.Value[1]))
	}
	return values
}

func (p prom) names(t *testing.T) []string {
	t.Helper()
	var answer struct{ Data []string }
	p.get(t, "/api/v1/label/__name__/values", &answer)
	return answer.Data
}

func (p prom) get(t *testing.T, path string, into any) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, string(p)+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode == http.StatusServiceUnavailable {
		return false
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("%s: %v\n%s", path, err, body)
	}
	return true
}

// background runs a program until the test ends.
func background(t *testing.T, bin string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), bin, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(bin), log)
		}
	})
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ports, err := freeport.Find(1)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0])
}
