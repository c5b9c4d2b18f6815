package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// promtool is Debian's, of the package prometheus.
func promtool(t *testing.T, arguments ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatalf("%v: apt-get install prometheus", err)
	}
	if out, err := exec.CommandContext(t.Context(), path, arguments...).CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", arguments, err, out)
	}
}

// Each alert is seen to fire and to keep quiet, and leads to a page that says what to do; each recording rule is evaluated.
func TestRules(t *testing.T) {
	promtool(t, "check", "rules", "../chart/rules.yaml")
	promtool(t, "test", "rules", "rules_test.yaml")
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Record string
				Annotations   map[string]string
			}
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
	for file, into := range map[string]any{"../chart/rules.yaml": &rules, "rules_test.yaml": &tests} {
		if err := yaml.Unmarshal(readFile(t, file), into); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for _, test := range tests.Tests {
		for _, a := range test.AlertRuleTest {
			seen[fmt.Sprint(a.Alertname, len(a.ExpAlerts) > 0)] = true
		}
		for _, p := range test.PromqlExprTest {
			seen[p.Expr] = true
		}
	}
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			if rule.Record != "" && !seen[rule.Record] || rule.Alert != "" && (!seen[rule.Alert+"true"] || !seen[rule.Alert+"false"]) {
				t.Errorf("%s%s is not tested both ways", rule.Alert, rule.Record)
			}
			page, ours := strings.CutPrefix(rule.Annotations["runbook_url"], "https://github.com/drain-agent/drain-agent/blob/main/")
			if _, err := os.Stat("../../" + page); rule.Alert != "" && (!ours || err != nil) {
				t.Errorf("%s has the runbook %q: %v", rule.Alert, rule.Annotations["runbook_url"], err)
			}
		}
	}
}

// Prometheus can read every expression of the dashboard.
func TestDashboardsAreReadable(t *testing.T) {
	var board struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(readFile(t, "../chart/dashboards/drain-controller.json"), &board); err != nil {
		t.Fatal(err)
	}
	var asked []map[string]any
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			text := strings.NewReplacer("$namespace", ".*", "$workload", ".*", "$__range", "1h", "$__rate_interval", "5m").Replace(target.Expr)
			asked = append(asked, map[string]any{"expr": text, "eval_time": "1m", "exp_samples": []any{}})
		}
	}
	if len(asked) < 13 {
		t.Errorf("only %d expressions", len(asked))
	}
	text, err := yaml.Marshal(map[string]any{"tests": []any{map[string]any{"interval": "1m", "promql_expr_test": asked}}})
	file := filepath.Join(t.TempDir(), "test.yaml")
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	promtool(t, "test", "rules", file)
}
