package main

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// TestRightsAreFew lists all that the chart's ServiceAccount may do. A right that is new here needs a reason.
func TestRightsAreFew(t *testing.T) {
	var may []string
	for document := range bytes.SplitSeq(readFile(t, "../drainctl/install.yaml"), []byte("---\n")) {
		var role rbacv1.ClusterRole // a Role has the same fields
		if yaml.Unmarshal(document, &role) != nil || !strings.HasSuffix(role.Kind, "Role") {
			continue
		}
		for _, rule := range role.Rules {
			for _, resource := range rule.Resources {
				may = append(may, strings.TrimSpace(fmt.Sprintf("%s: %s %s %s", role.Kind, strings.Join(rule.Verbs, ","), resource, strings.Join(rule.ResourceNames, ","))))
			}
		}
	}
	want := []string{
		"ClusterRole: create events",   // on the workload, for a stop that was not clean
		"ClusterRole: get configmaps",  // of a pod that is being made: Envoy's configuration
		"ClusterRole: get jobs",        // the CronJob behind a pod
		"ClusterRole: get replicasets", // the Deployment behind a pod
		"ClusterRole: get,list,watch ingresses",
		"ClusterRole: get,list,watch namespaces",
		"ClusterRole: get,list,watch services",
		"ClusterRole: get,update mutatingwebhookconfigurations drain-controller", // the authority of our certificates
		"ClusterRole: get,update validatingwebhookconfigurations drain-controller",
		"ClusterRole: list,watch mutatingwebhookconfigurations", // a watch cannot be narrowed to a name
		"ClusterRole: list,watch pods",                          // the last status of a pod with an agent has its verdict
		"ClusterRole: list,watch validatingwebhookconfigurations",
		"Role: get,update secrets drain-controller-certificate",
		"Role: list,watch secrets",
	}
	if slices.Sort(may); !slices.Equal(may, want) {
		t.Errorf("the ServiceAccount may\n%s\nwant\n%s", strings.Join(may, "\n"), strings.Join(want, "\n"))
	}
}

// Every figure of the chart's dashboard and alerts is one that the controller has.
func TestDashboardAsksForWhatThereIs(t *testing.T) {
	var code []byte
	for _, file := range []string{"internal/ledger/metrics.go", "internal/ledger/report.go", "internal/admission/pods.go"} {
		code = append(code, readFile(t, file)...)
	}
	asked := regexp.MustCompile(`drain_controller_(\w+)`).FindAllSubmatch(append(readFile(t, "../chart/dashboards/drain-controller.json"), readFile(t, "../chart/rules.yaml")...), -1)
	for _, name := range asked {
		short := regexp.MustCompile("_(bucket|sum|count)$").ReplaceAll(name[1], nil)
		if !bytes.Contains(code, fmt.Appendf(nil, "%q", short)) && !bytes.Contains(code, fmt.Appendf(nil, `"drain_controller_%s"`, short)) {
			t.Errorf("the controller has no %s", name[0])
		}
	}
	if len(asked) < 10 {
		t.Errorf("only %d figures were found", len(asked))
	}
}
