package budget_test

import (
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/budget"
)

func TestArgumentsThatCannotBeReadAreAllNamed(t *testing.T) {
	_, err := budget.FromArgs([]string{"--grace-period=soon", "--stop=app=x", "--quiet-max=-1s"})
	for _, want := range []string{"--grace-period=soon", "--stop=app=x", "--quiet-max=-1s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
	if _, err := budget.FromArgs([]string{"--preset=f5"}); err == nil || !strings.Contains(err.Error(), "kube-proxy") {
		t.Errorf("unknown preset: %v", err)
	}
}

func TestDefaultsAreThePresetKubeProxy(t *testing.T) {
	p, err := budget.FromArgs(nil)
	if err != nil || p.Budget() != func() budget.Budget { d := budget.Defaults(); return d.Budget() }() {
		t.Errorf("%+v, %v", p.Budget(), err)
	}
	if preset, ok := budget.Find("kube-proxy"); !ok || preset.Propagation != p.Propagation {
		t.Error("kube-proxy is not the default")
	}
}

func TestFlagTakesTheLastOfBothForms(t *testing.T) {
	got, ok := budget.Flag([]string{"run", "--hooks=a", "--hooks", "app,agent", "--quit-proxy", "--margin=1s"}, "hooks")
	if !ok || got != "app,agent" {
		t.Errorf("%q %v", got, ok)
	}
	if got, ok := budget.Flag([]string{"--quit-proxy", "--margin=1s"}, "quit-proxy"); !ok || got != "" {
		t.Errorf("a flag without a value: %q %v", got, ok)
	}
	if p, err := budget.FromArgs([]string{"--stop=worker=9s", "--stop-order=app+worker,proxy"}); err != nil || p.Budget().Floor != 15700*time.Millisecond {
		t.Errorf("floor %v, %v", p.Budget().Floor, err)
	}
}

func TestProblemsOfTheEnvironmentAndOfOtherCommands(t *testing.T) {
	for _, one := range []struct {
		args     string
		variable string
		value    string
		want     string
	}{
		{"run", "DRAIN_AGENT_POLL", "x", "DRAIN_AGENT_POLL=x: cannot be read; write a duration"},
		{"run", "DRAIN_AGENT_STOP", "app=5s\nproxy=soon", "cannot be read; write NAME=5s"},
		{"", "DRAIN_AGENT_GRACE", "30s", "DRAIN_AGENT_GRACE: no flag has this twin"},
		{"run --poll=25ms", "DRAIN_AGENT_POLL", "x", ""},
		{"run", "DRAIN_AGENT_POLL", "$(POLL)", ""},
		{"run --mode=$(MODE)", "DRAIN_AGENT_STOP", "app=5s\n\nproxy=2s", ""},
		{"run", "DRAIN_AGENT_TIMEOUT", "5s", ""},
		{"run", "GOMEMLIMIT", "x", ""},
		{"hook --http=x app", "DRAIN_AGENT_POLL", "x", ""},
	} {
		bad := budget.Problems(strings.Fields(one.args), map[string]string{one.variable: one.value})
		if got := strings.Join(bad, "; "); !strings.Contains(got, one.want) || (one.want == "") != (got == "") {
			t.Errorf("%+v: %q", one, got)
		}
	}
}
