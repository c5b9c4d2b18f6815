package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func testMetrics() *Metrics {
	return NewMetrics(MetricsOptions{
		Version: "1.2.3", GoVersion: "go1.26", Phases: []string{"serving", "draining"}, Outcomes: []string{"clean", "deadline"},
		Containers: []string{"app", "proxy"},
	})
}

// use touches every metric once.
func use(m *Metrics) {
	m.SetPhase("draining")
	m.PhaseLeft("serving", time.Minute)
	m.Verdict("clean", 3*time.Second)
	m.InFlight("proxy", "rq_active", 4, true)
	m.Classes("proxy", "rq_active", map[string]int64{"tcp": 1})
	m.NewConnections(2)
	m.Score(0.25, true)
	m.Hold("app", 2*time.Second)
	m.Poll(time.Millisecond, "timeout")
	m.UnknownHook()
}

// The names are a contract: tests from outside, dashboards and alerts rely on them.
func TestMetricNames(t *testing.T) {
	m := testMetrics()
	use(m)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"phase": "phase", "drains_total": "outcome", "drain_duration_seconds": "", "phase_duration_seconds": "phase",
		"in_flight": "rung,side", "in_flight_class": "class,rung,side", "in_flight_known": "side", "new_connections_total": "", "score": "",
		"hook_hold_seconds": "container", "proxy_poll_duration_seconds": "", "proxy_poll_errors_total": "kind",
		"unknown_hooks_total": "", "build_info": "goversion,revision,version",
	}
	for name, labels := range want {
		family := families["drain_agent_"+name]
		if family == nil {
			t.Errorf("drain_agent_%s is missing", name)
			continue
		}
		var got []string
		for _, pair := range family.Metric[0].Label {
			got = append(got, pair.GetName())
		}
		if strings.Join(got, ",") != labels {
			t.Errorf("drain_agent_%s has labels %q, want %q", name, got, labels)
		}
	}
	if len(families) != len(want) {
		t.Errorf("%d families, want %d: %v", len(families), len(want), families)
	}
}

func TestMetricsAreClean(t *testing.T) {
	m := testMetrics()
	use(m)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	problems, err := promlint.New(w.Body).Lint() // what promtool check metrics runs
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %+v", err, problems)
	}
}

func (m *Metrics) want(t *testing.T, name, samples string) {
	t.Helper()
	var lines strings.Builder
	for line := range strings.SplitSeq(strings.TrimSpace(samples), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			lines.WriteString(line + "\n")
		}
	}
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	var got strings.Builder
	for _, line := range strings.SplitAfter(w.Body.String(), "\n") {
		if rest, ok := strings.CutPrefix(line, "drain_agent_"+name); ok && strings.ContainsAny(rest[:1], "{ ") {
			got.WriteString(strings.TrimSpace(rest) + "\n")
		}
	}
	if got.String() != lines.String() {
		t.Errorf("drain_agent_%s:\n%swant\n%s", name, got.String(), lines.String())
	}
}

func TestUnknownIsNeverZero(t *testing.T) {
	m := testMetrics()
	m.want(t, "in_flight", ``)
	m.want(t, "in_flight_known", "{side=\"app\"} 0\n{side=\"proxy\"} 0")
	m.want(t, "score", ``)

	m.InFlight("proxy", "rq_active", 4, true)
	m.InFlight("app", "prometheus", 0, true)
	m.Classes("proxy", "rq_active", map[string]int64{"websocket": 3, "tcp": 1})
	m.Classes("app", "prometheus", map[string]int64{"grpc_stream": 2})
	m.want(t, "in_flight_class", "{class=\"grpc_stream\",rung=\"prometheus\",side=\"app\"} 2\n{class=\"tcp\",rung=\"rq_active\",side=\"proxy\"} 1\n{class=\"websocket\",rung=\"rq_active\",side=\"proxy\"} 3")
	m.Classes("proxy", "downstream_cx_active", nil)
	m.want(t, "in_flight_class", `{class="grpc_stream",rung="prometheus",side="app"} 2`)
	m.Score(0, true)
	m.want(t, "in_flight", "{rung=\"prometheus\",side=\"app\"} 0\n{rung=\"rq_active\",side=\"proxy\"} 4")
	m.want(t, "in_flight_known", "{side=\"app\"} 1\n{side=\"proxy\"} 1")
	m.want(t, "score", `0`)

	m.InFlight("proxy", "downstream_cx_active", 9, true) // one rung at a time
	m.want(t, "in_flight", "{rung=\"downstream_cx_active\",side=\"proxy\"} 9\n{rung=\"prometheus\",side=\"app\"} 0")

	m.InFlight("proxy", "downstream_cx_active", 0, false)
	m.Score(0, false)
	m.want(t, "in_flight", `{rung="prometheus",side="app"} 0`)
	m.want(t, "in_flight_known", "{side=\"app\"} 1\n{side=\"proxy\"} 0")
	m.want(t, "score", ``)
}

func TestOneUnknownSourceMakesTheAppUnknown(t *testing.T) {
	m := testMetrics()
	m.InFlight("app", "json:a", 0, false)
	m.InFlight("app", "json:b", 2, true)
	m.want(t, "in_flight_known", "{side=\"app\"} 0\n{side=\"proxy\"} 0")
	m.want(t, "in_flight", `{rung="json:b",side="app"} 2`)
	m.InFlight("app", "json:a", 1, true)
	m.want(t, "in_flight_known", "{side=\"app\"} 1\n{side=\"proxy\"} 0")
	m.want(t, "in_flight", "{rung=\"json:a\",side=\"app\"} 1\n{rung=\"json:b\",side=\"app\"} 2")
}

func TestOnePhaseAtATime(t *testing.T) {
	m := testMetrics()
	m.want(t, "phase", "{phase=\"draining\"} 0\n{phase=\"serving\"} 1")
	m.SetPhase("draining")
	m.want(t, "phase", "{phase=\"draining\"} 1\n{phase=\"serving\"} 0")
}

func TestCountersExistBeforeTheirFirstEvent(t *testing.T) {
	m := testMetrics()
	m.want(t, "drains_total", "{outcome=\"clean\"} 0\n{outcome=\"deadline\"} 0")
	m.want(t, "hook_hold_seconds_count", "{container=\"app\"} 0\n{container=\"proxy\"} 0")
	m.Verdict("deadline", time.Second)
	m.want(t, "drains_total", "{outcome=\"clean\"} 0\n{outcome=\"deadline\"} 1")
	m.want(t, "drain_duration_seconds_sum", "1")
}

func TestMadeUpHookNamesMakeNoLabels(t *testing.T) {
	m := testMetrics()
	for _, name := range []string{"a", "b", "c"} {
		m.Hold(name, time.Second)
	}
	m.want(t, "hook_hold_seconds_count", "{container=\"app\"} 0\n{container=\"other\"} 3\n{container=\"proxy\"} 0")
}
