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
