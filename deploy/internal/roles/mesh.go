package roles

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// adminPortOf finds proxyAdminPort in a ProxyConfig, or in a mesh configuration below defaultConfig; "" where it is not set.
func adminPortOf(text string) string {
	var raw any
	if yaml.Unmarshal([]byte(text), &raw) != nil {
		return ""
	}
	config, _ := canonical(raw).(map[string]any)
	for _, key := range []string{"spec", "meshconfig", "defaultconfig"} { // IstioOperator, mesh configuration, ProxyConfig
		if inner, ok := config[key].(map[string]any); ok {
			config = inner
		}
	}
	if port, has := config["proxyadminport"]; has {
		return fmt.Sprint(port)
	}
	return ""
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// meshAdminPort reads where a mesh was told to put the admin: annotations of the pod, variables of the container, the mesh's own
// configuration. 0: it was told nothing.
func (in *Input) meshAdminPort(mesh string, c candidate) (port int, why string) {
	take := func(text, from string) {
		if n, err := strconv.Atoi(strings.TrimSpace(text)); port == 0 && err == nil && n > 0 && n < 65536 {
			port, why = n, from
		}
	}
	env := func(name string) {
		for _, e := range c.Env {
			if e.Name == name {
				take(e.Value, "its variable "+name)
			}
		}
	}
	switch mesh {
	case "istio":
		const key = "proxy.istio.io/config"
		take(adminPortOf(in.Pod.Annotations[key]), key+" of the pod")
		for _, e := range c.Env {
			if e.Name == "PROXY_CONFIG" {
				take(adminPortOf(e.Value), "its variable PROXY_CONFIG")
			}
		}
		for _, text := range in.MeshConfigs {
			take(adminPortOf(text), "proxyAdminPort of the mesh's configuration")
		}
	case "kuma":
		const key = "kuma.io/envoy-admin-port"
		take(in.Pod.Annotations[key], key+" of the pod")
		take(in.NamespaceAnnotations[key], key+" of the namespace")
		env("KUMA_DATAPLANE_ADMIN_PORT")
	case "consul":
		for i, word := range slices.Concat(c.Command, c.Args) {
			name, value, joined := strings.Cut(strings.TrimLeft(word, "-"), "=")
			if next := slices.Concat(c.Command, c.Args); !joined && i+1 < len(next) {
				value = next[i+1]
			}
			if name == "envoy-admin-bind-port" {
				take(value, "-envoy-admin-bind-port")
			}
		}
	case "appmesh":
		env("ENVOY_ADMIN_ACCESS_PORT")
		take(in.Pod.Annotations["appmesh.k8s.aws/envoyAdminAccessPort"], "appmesh.k8s.aws/envoyAdminAccessPort")
	}
	return port, cmp.Or(why, "")
}

// contour returns the admin that "contour bootstrap", an init container, writes into Envoy's configuration.
func (in *Input) contour(c candidate) string {
	for i := range in.Pod.Spec.InitContainers {
		init := &in.Pod.Spec.InitContainers[i]
		words := slices.Concat(init.Command, init.Args)
		if c.Container == nil || !slices.Contains(words, "bootstrap") || parseImage(init.Image).name != "contour" && !slices.Contains(words, "contour") && !slices.Contains(words, "/bin/contour") {
			continue
		}
		for j, word := range words {
			name, value, joined := strings.Cut(word, "=")
			if name == "--admin-address" && !joined && j+1 < len(words) {
				value = words[j+1]
			}
			if name == "--admin-address" {
				return "unix://" + value
			}
		}
		return "unix:///admin/admin.sock"
	}
	return ""
}
