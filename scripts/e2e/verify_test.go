//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestVerify lets drainctl verify judge a workload that keeps every promise, and two that were broken on purpose: a hook that kubelet
// cannot call, and a request that outlives the grace period.
func TestVerify(t *testing.T) {
	t.Parallel()
	drainctl := filepath.Join(t.TempDir(), "drainctl")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", drainctl, "../../deploy/drainctl").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, row := range map[string]struct {
		change func(*workload)
		spoil  func(*testing.T, *workload) // once it runs
		url    bool
		code   int
		want   string // a finding
	}{
		"a good one": {url: true},
		"a hook that kubelet cannot call": {
			change: func(w *workload) { w.container("app").Lifecycle.PreStop.HTTPGet.Port = intstr.FromInt32(9) }, code: 2, want: "hook-failed",
		},
		"a request that outlives the grace period": {
			change: func(w *workload) { w.grace(20) }, spoil: func(t *testing.T, w *workload) { t.Helper(); stuck(t, w.target(t)) }, code: 2, want: "deadline",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := load(t, "native", namespace(t, "restricted"))
			if row.change != nil {
				row.change(w)
			}
			w.start(t)
			args := []string{"verify", "-n", w.ns, "deployment/" + w.deployment.Name, "-o", "json", "--timeout=5m"}
			if row.url {
				args = append(args, "--url=http://"+w.target(t)+"/work?ms=20", "--rate=50")
			}
			w.terminated(t)
			look := verified(t, drainctl, append(slices.Clone(args[:6]), "--read-only"))
			if look.Rolled || len(look.Agents) != int(*w.deployment.Spec.Replicas) || look.Agents[0].Phase != "serving" {
				t.Errorf("--read-only: %s", look.text)
			}
			if row.spoil != nil {
				row.spoil(t, w)
			}
			r := verified(t, drainctl, args)
			if r.code != row.code || len(r.Stops) != int(*w.deployment.Spec.Replicas) || row.want != "" && !slices.Contains(r.errors(), row.want) {
				t.Errorf("exit code %d, want %d with %q\n%s", r.code, row.code, row.want, r.text)
			}
		})
	}
}

// verification is what drainctl verify -o json printed.
type verification struct {
	code     int
	text     string
	Rolled   bool
	Stops    []struct{ Pod string }
	Agents   []struct{ Phase string }
	Findings []struct{ Severity, Check string }
}

func (v verification) errors() (all []string) {
	for _, f := range v.Findings {
		if f.Severity == "error" {
			all = append(all, f.Check)
		}
	}
	return all
}

// verified runs drainctl as cluster admin of our node, or with the current kubeconfig.
func verified(t *testing.T, drainctl string, args []string) (v verification) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), drainctl, args...)
	if os.Getenv("CLUSTER") != "external" {
		cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(stateDir(), "admin.conf"))
	}
	out, err := cmd.Output()
	exit, failed := errors.AsType[*exec.ExitError](err)
	if failed {
		v.code = exit.ExitCode()
	}
	if e := json.Unmarshal(out, &v); e != nil {
		said := ""
		if failed {
			said = string(exit.Stderr)
		}
		t.Fatalf("drainctl %v: %v: %s%s", args, errors.Join(err, e), out, said)
	}
	v.text = string(out)
	return v
}
