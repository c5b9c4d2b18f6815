package main

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

// Render returns the objects of a chart in the order of its files, as helm template does, without its tests and notes.
func Render(path, release, namespace string, values map[string]any, apis ...string) (string, error) {
	c, err := loader.Load(path)
	if err != nil {
		return "", fmt.Errorf("load the chart: %w", err)
	}
	return renderChart(c, release, namespace, values, false, apis...)
}

func renderChart(c *chart.Chart, release, namespace string, values map[string]any, tests bool, apis ...string) (string, error) {
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = chartutil.KubeVersion{Version: "v1.34.4", Major: "1", Minor: "34"}
	capabilities.APIVersions = append(slices.Clone(capabilities.APIVersions), apis...)
	given, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: release, Namespace: namespace, IsInstall: true, Revision: 1}, capabilities)
	if err != nil {
		return "", fmt.Errorf("values: %w", err)
	}
	files, err := engine.Render(c, given)
	if err != nil {
		return "", fmt.Errorf("render the chart: %w", err)
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := strings.TrimSpace(files[name])
		if path.Ext(name) != ".yaml" || !tests && strings.Contains(name, "/tests/") || text == "" {
			continue
		}
		fmt.Fprintf(&out, "---\n%s\n", strings.TrimPrefix(text, "---\n"))
	}
	return out.String(), nil
}
