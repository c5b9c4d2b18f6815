package main

import (
	"fmt"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"sigs.k8s.io/yaml"
)

// prometheusOperator is what an API server with its CRDs has.
var prometheusOperator = []string{"monitoring.coreos.com/v1/PodMonitor", "monitoring.coreos.com/v1/PrometheusRule"}

// Choices are values that change what is rendered. Each list is multiplied with all others of its group; the groups reach different
// files of the chart.
var choices = [][][]string{
	{
		{"", "lint: {namespaces: all}", "lint: {namespaces: none}", "lint: {deny: true}"},
		{"", "certificates: {provider: cert-manager}", "certificates: {provider: cert-manager, issuer: {name: company, kind: ClusterIssuer}}"},
		{"", "readConfigMaps: false"},
		{"", "agent: {allowImageAnnotation: true, defaults: {preset: nlb, quiet-max: 20s}}"},
		{"", "podDisruptionBudget: {enabled: false}"},
		{"", "networkPolicy: {enabled: false}"},
		{"", "ledger: {enabled: false}", "{replicas: 1, ledger: {store: sqlite, sqlite: {claim: disk}}}", "ledger: {store: postgres, postgres: {secret: database}}"},
		{"", "ledger: {api: cluster, reports: true}", "ledger: {api: proxy, authProxy: {name: proxy, image: \"registry.example/proxy:1\", ports: [{name: api, containerPort: 4180}]}}"},
		{"", `{image: {repository: registry.example/controller, tag: "2", pullPolicy: Always}, imagePullSecrets: [{name: registry}], webhook: {timeoutSeconds: 10,
excludedNamespaces: [monitoring, kube-system]}, istioNamespace: "", resources: {}, nodeSelector: {}, tolerations: [{key: system, operator: Exists}],
priorityClassName: system-cluster-critical, podAnnotations: {a: "1"}, podLabels: {b: "true"}}`},
	},
	{
		{"monitoring: {podMonitor: auto}", "monitoring: {podMonitor: true}", "monitoring: {podMonitor: false}"},
		{"monitoring: {rules: auto}", "monitoring: {rules: true}", "monitoring: {rules: false}"},
		{"", "monitoring: {labels: {release: prometheus}, dashboardLabels: {folder: envoy}}"},
		{"", "monitoring: {dashboards: true}"},
		{"", "ledger: {enabled: false}"},
		{"", "policy: {enabled: true}"},
	},
}

// Combinations renders the chart with every combination of the choices, on API servers with and without the Prometheus operator's CRDs,
// and returns each object that comes of them once, under the values that first made it; the chart's tests too.
func Combinations(chart string) (string, error) {
	c, err := loader.Load(chart)
	if err != nil {
		return "", fmt.Errorf("load the chart: %w", err)
	}
	var out strings.Builder
	seen := map[string]bool{}
	for i, group := range choices {
		servers := [][]string{nil}
		if i == 1 {
			servers = append(servers, prometheusOperator)
		}
		for _, apis := range servers {
			for _, picked := range product(group) {
				values := map[string]any{}
				for _, text := range picked {
					var one map[string]any
					if err := yaml.Unmarshal([]byte(text), &one); err != nil {
						return "", fmt.Errorf("%s: %w", text, err)
					}
					values = chartutil.MergeTables(one, values)
				}
				text, err := renderChart(c, "drain-controller", "drain-system", values, true, apis...)
				if err != nil {
					return "", fmt.Errorf("%q: %w", picked, err)
				}
				for object := range strings.SplitSeq(text, "---\n") {
					if object = strings.TrimSpace(object); object == "" || seen[object] {
						continue
					}
					seen[object] = true
					fmt.Fprintf(&out, "---\n# values: %s\n%s\n", strings.Join(strings.Fields(strings.Join(picked, " ")), " "), object)
				}
			}
		}
	}
	return out.String(), nil
}

// product picks one of each list in all ways.
func product(lists [][]string) (all [][]string) {
	all = [][]string{nil}
	for _, list := range lists {
		var longer [][]string
		for _, begun := range all {
			for _, one := range list {
				longer = append(longer, append(begun[:len(begun):len(begun)], one))
			}
		}
		all = longer
	}
	return all
}
