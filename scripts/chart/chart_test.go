package main

import (
	"flag"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write deploy/drainctl/install.yaml instead of comparing it")

const chartDir, installFile = "../../deploy/chart", "../../deploy/drainctl/install.yaml"

func render(t *testing.T, namespace string, values map[string]any, apis ...string) string {
	t.Helper()
	text, err := Render(chartDir, "drain-controller", namespace, values, apis...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// drainctl install prints what the chart makes.
func TestInstallPrintsTheChart(t *testing.T) {
	text := render(t, "drain-system", nil)
	if *update {
		if err := os.WriteFile(installFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(installFile); err != nil || string(got) != text {
		t.Errorf("%s is not what the chart renders (%v): go test -C scripts/chart -run TestInstall -update", installFile, err)
	}
	command := exec.CommandContext(t.Context(), "go", "run", "./deploy/drainctl", "install", "--namespace=platform", "--image=registry.example/controller:2", "--agent-image=registry.example/agent:3")
	command.Dir = "../.."
	printed, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := render(t, "platform", map[string]any{
		"image": map[string]any{"repository": "registry.example/controller", "tag": "2"}, "agent": map[string]any{"image": "registry.example/agent:3"},
	})
	if _, rest, _ := strings.Cut(string(printed), "---\n"); "---\n"+rest != want {
		t.Errorf("drainctl install prints\n%s\nthe chart\n%s", rest, want)
	}
}

// A wrong value is refused, and the message names it.
func TestWrongValuesAreNamed(t *testing.T) {
	for want, values := range map[string]map[string]any{
		"replicas":    {"replicas": "two"},
		"replica":     {"replica": 2},
		"namespaces":  {"lint": map[string]any{"namespaces": "some"}},
		"provider":    {"certificates": map[string]any{"provider": "vault"}},
		"timeout":     {"webhook": map[string]any{"timeoutSeconds": 60}},
		"defaults":    {"agent": map[string]any{"defaults": map[string]any{"preset": 3}}},
		"claim":       {"replicas": 1, "ledger": map[string]any{"store": "sqlite"}},
		"replicas: 1": {"ledger": map[string]any{"store": "sqlite", "sqlite": map[string]any{"claim": "c"}}},
		"secret":      {"ledger": map[string]any{"store": "postgres"}},
		"reports":     {"ledger": map[string]any{"reportClientCA": map[string]any{"configMap": "authorities"}}},
		"keepStops":   {"ledger": map[string]any{"keepStops": 0}},
		"authProxy":   {"ledger": map[string]any{"api": "proxy"}},
		"objective":   {"monitoring": map[string]any{"objective": 1}},
		"podMonitor":  {"monitoring": map[string]any{"podMonitor": "perhaps"}},
	} {
		if _, err := Render(chartDir, "r", "n", values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want it to name %s", values, err, want)
		}
	}
}

// Whatever stands in a value, of whatever it is made: something else is refused, and the message names the value. So is a name that
// no value has.
func TestEveryValueIsChecked(t *testing.T) {
	text, err := os.ReadFile(chartDir + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := yaml.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	checked := 0
	refused := func(path []string, value any) {
		t.Helper()
		checked++
		for _, name := range slices.Backward(path) {
			value = map[string]any{name: value}
		}
		want := path[len(path)-1]
		if _, err := Render(chartDir, "r", "n", value.(map[string]any)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want it to name %s", value, err, want)
		}
	}
	var walk func(path []string, s map[string]any)
	walk = func(path []string, s map[string]any) {
		if len(path) > 0 && path[0] == "global" { // Helm's own
			return
		}
		if len(path) > 0 {
			refused(path, []any{map[string]any{"of": "nothing"}, 3.5})
			if s["type"] != "string" {
				refused(path, "nonsense")
			}
		}
		properties, _ := s["properties"].(map[string]any)
		if properties != nil {
			refused(append(path[:len(path):len(path)], "nobodyKnows"), 1)
		}
		for name, of := range properties {
			walk(append(path[:len(path):len(path)], name), of.(map[string]any))
		}
	}
	walk(nil, schema)
	var values map[string]any
	if text, err = os.ReadFile(chartDir + "/values.yaml"); err == nil {
		err = yaml.Unmarshal(text, &values)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name := range values {
		if schema["properties"].(map[string]any)[name] == nil {
			t.Errorf("value %s is not in the schema", name)
		}
	}
	if checked < 80 {
		t.Errorf("only %d wrong values were tried", checked)
	}
}

// Helm's linter has nothing to say.
func TestHelmLint(t *testing.T) {
	for _, values := range []string{"", "policy: {enabled: true}", "certificates: {provider: cert-manager}"} {
		var given map[string]any
		if err := yaml.Unmarshal([]byte(values), &given); err != nil {
			t.Fatal(err)
		}
		for _, message := range lint.AllWithKubeVersion(chartDir, given, "drain-system", &chartutil.KubeVersion{Version: "v1.34.4", Major: "1", Minor: "34"}).Messages {
			if message.Severity >= support.WarningSev {
				t.Errorf("%s: %s", values, message)
			}
		}
	}
}

// The archive has what the folder has.
func TestPackage(t *testing.T) {
	c, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := chartutil.Save(c, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	text, err := Render(archive, "drain-controller", "drain-system", map[string]any{"policy": map[string]any{"enabled": true}})
	if err != nil {
		t.Fatal(err)
	}
	if want := render(t, "drain-system", map[string]any{"policy": map[string]any{"enabled": true}}); text != want {
		t.Errorf("the archive renders\n%s\nthe folder\n%s", text, want)
	}
}

func TestWhatValuesChange(t *testing.T) {
	monitoring := prometheusOperator
	certificates := map[string]any{"reports": true, "reportClientCA": map[string]any{"configMap": "authorities"}}
	authProxy := map[string]any{"name": "proxy", "image": "registry.example/proxy:1", "ports": []any{map[string]any{"name": "api", "containerPort": 4180}}}
	for _, row := range []struct {
		values    map[string]any
		apis      []string
		has, lack string
	}{
		{nil, nil, "replicas: 2", "kind: PodMonitor"},
		{nil, monitoring, "kind: PodMonitor", ""},
		{nil, monitoring, "kind: PrometheusRule", ""},
		{map[string]any{"monitoring": map[string]any{"podMonitor": false}}, monitoring, "kind: PrometheusRule", "kind: PodMonitor"},
		{map[string]any{"policy": map[string]any{"enabled": true}}, nil, "kind: ValidatingAdmissionPolicyBinding", ""},
		{map[string]any{"monitoring": map[string]any{"dashboards": true}}, nil, "  drain-controller.json: |", "kind: PodMonitor"},
		{nil, nil, "kind: NetworkPolicy", "kind: ConfigMap"},
		{nil, nil, "kind: ValidatingWebhookConfiguration", "kind: ValidatingAdmissionPolicy"},
		{map[string]any{"lint": map[string]any{"namespaces": "none"}}, nil, "kind: MutatingWebhookConfiguration", "kind: ValidatingWebhookConfiguration"},
		{map[string]any{"lint": map[string]any{"deny": true}}, nil, "--lint-deny", ""},
		{map[string]any{"readConfigMaps": false}, nil, "--read-config-maps=false", "configmaps]"},
		{map[string]any{"certificates": map[string]any{"provider": "cert-manager"}}, nil, "cert-manager.io/inject-ca-from: ns/drain-controller", "resources: [secrets]"},
		{map[string]any{"agent": map[string]any{"defaults": map[string]any{"preset": "nlb"}}}, nil, `"--default=preset=nlb"`, ""},
		{map[string]any{"agent": map[string]any{"allowImageAnnotation": true}}, nil, "--allow-agent-image", ""},
		{nil, nil, "--store=memory", "name: api"},
		{map[string]any{"ledger": map[string]any{"enabled": false}}, nil, "--store=none", "resources: [pods], verbs: [list, watch]} # their last status has the verdict"},
		{map[string]any{"ledger": map[string]any{"api": "cluster"}}, nil, "{name: api, port: 8082, targetPort: api}", ""},
		{map[string]any{"replicas": 1, "ledger": map[string]any{"store": "sqlite", "sqlite": map[string]any{"claim": "disk"}}}, nil, "persistentVolumeClaim: {claimName: disk}", "rollingUpdate"},
		{map[string]any{"ledger": map[string]any{"store": "postgres", "postgres": map[string]any{"secret": "db"}}}, nil, "--store=file:/etc/drain-controller/store/url", "persistentVolumeClaim"},
		{nil, monitoring, "alert: StopsWithoutVerdict", ""},
		{map[string]any{"ledger": map[string]any{"enabled": false}}, monitoring, "alert: DrainControllerIsAway", "    - alert: StopsWithoutVerdict"},
		{map[string]any{"monitoring": map[string]any{"objective": 0.95}}, monitoring, "expr: vector(0.95)", "      expr: vector(0.99)"},
		{nil, nil, "resources: [events]", "resources: [tokenreviews], verbs: [create]} # whose report it is"},
		{map[string]any{"ledger": map[string]any{"reports": true}}, nil, "- --report=https://drain-controller.ns.svc/report", "        - --api=:8082"},
		{map[string]any{"ledger": certificates}, nil, "--report-client-ca=/etc/drain-controller/report/ca.crt", ""},
		{map[string]any{"ledger": certificates}, nil, "{name: report, mountPath: /etc/drain-controller/report, readOnly: true}", ""},
		{map[string]any{"ledger": certificates}, nil, "configMap: {name: authorities}", ""},
		{map[string]any{"ledger": map[string]any{"api": "proxy", "authProxy": authProxy}}, nil, "- --api=127.0.0.1:8082", "        - {name: api, containerPort: 8082}"},
		{map[string]any{"ledger": map[string]any{"api": "proxy", "authProxy": authProxy}}, nil, "        securityContext:\n          allowPrivilegeEscalation: false\n          capabilities:", ""},
		{map[string]any{"networkPolicy": map[string]any{"enabled": false}}, nil, "kind: PodDisruptionBudget", "kind: NetworkPolicy"},
		{map[string]any{"webhook": map[string]any{"excludedNamespaces": []any{"monitoring"}}}, nil, "      - monitoring\n", ""},
	} {
		text := render(t, "ns", row.values, row.apis...)
		if !strings.Contains(text, row.has) || row.lack != "" && strings.Contains(text, row.lack+"\n") {
			t.Errorf("%v: want %q and not %q in\n%s", row.values, row.has, row.lack, text)
		}
	}
}
