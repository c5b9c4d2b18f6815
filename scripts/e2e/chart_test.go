//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

// The chart's archive, by Helm: installed, tested, upgraded, rolled back and removed; after each step Deployments that know
// nothing of it are rolled under load: a service behind its Envoy, a gateway, a service with mutual TLS.
func TestChart(t *testing.T) {
	const own, release = "e2e-drain-chart", "chart"
	archive, helm := chart(t, own)
	helm("install", release, archive, "--wait", "--timeout=5m")
	t.Cleanup(func() { helm("uninstall", release, "--ignore-not-found") }) // where the test does not come to it
	helm("test", release)

	var w *workload
	for _, step := range []struct {
		helm []string
		pods func() (*workload, *tls.Config)
	}{
		{nil, func() (*workload, *tls.Config) {
			return parse(t, kubectl(t, "kustomize", "testdata/ordinary"), namespace(t, "restricted")), nil
		}},
		{[]string{"upgrade", release, archive, "--set=policy.enabled=true,webhook.timeoutSeconds=5", "--wait", "--timeout=5m"}, func() (*workload, *tls.Config) {
			service := load(t, "native", namespace(t, "restricted")).start(t)
			return load(t, "gateway", namespace(t, "restricted")).withoutAgent().resolve(t, service), nil
		}},
		{[]string{"rollback", release, "1", "--wait", "--timeout=5m"}, func() (*workload, *tls.Config) {
			w, peer := mtls(t)
			return w.withoutAgent(), peer
		}},
	} {
		if step.helm != nil {
			helm(step.helm...)
		}
		var peer *tls.Config
		w, peer = step.pods()
		kubectl(t, "label", "namespace", w.ns, "drain-agent.io/inject=enabled")
		lostNothing(t, roll(t, w, 1, func(p *openloop.Plan) {
			if p.TLS = peer; peer != nil {
				p.Rate, p.Slow = 50, 50
			}
		}))
		for _, pod := range pods(t, w.ns, w.selector()) {
			if !hasAgent(pod) {
				t.Errorf("after %q pod %s has no agent", step.helm, pod.Name)
			}
		}
	}
	helm("uninstall", release, "--wait")
	kubectl(t, "-n", w.ns, "rollout", "restart", "deployment/"+w.deployment.Name)
	w.rolledOut(t)
	w.terminated(t)
	const kinds = "all,secrets,serviceaccounts,roles,rolebindings,poddisruptionbudgets,networkpolicies,clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings"
	if left := kubectl(t, "get", kinds, "-A", "-l", "app.kubernetes.io/instance="+release, "-o", "name"); len(left) > 0 {
		t.Errorf("left after uninstall:\n%s", left)
	}
}

// chart packs the chart and makes a namespace for a release of it, which the returned Helm acts on.
func chart(t *testing.T, own string) (archive string, helm func(arguments ...string)) {
	t.Helper()
	program := helmProgram(t)
	packed, err := exec.CommandContext(t.Context(), "go", "run", "-C", "../chart", ".", "package", t.TempDir()).Output()
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, "create", "namespace", own)
	kubectl(t, "label", "namespace", own, "pod-security.kubernetes.io/enforce=restricted")
	t.Cleanup(func() { feed(t, nil, "delete", "namespace", own, "--ignore-not-found", "--wait=false") })
	return strings.TrimSpace(string(packed)), func(arguments ...string) {
		t.Helper()
		// The node's kubeconfig, or with CLUSTER=external somebody's.
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "bash", append([]string{"-c", `eval "$("$0" env)"; exec "$@"`, clusterScript, program, "--namespace=" + own}, arguments...)...) //nolint:gosec // ours
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("helm %q: %v\n%s", arguments, err, out)
		}
	}
}

// helmProgram is Helm 3, which scripts/helm/run builds; a test that needs it is skipped without it.
func helmProgram(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	built, _ := filepath.Glob(filepath.Join(cache, "drain-agent", "helm-*", "helm3")) // the pattern is ours
	if len(built) == 0 {
		t.Skip("no Helm here: make helm builds it")
	}
	return built[len(built)-1]
}
