package roles

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Where a proxy stands in its pod.
const (
	Regular   = "a regular container"
	Native    = "a native sidecar"
	Admission = "added at admission"
)

// Envoy is the proxy of a pod.
type Envoy struct {
	Container  string // its name; "" when it is added at admission, or when there is none
	Mesh       string // istio, consul, kuma, appmesh, osm or ""
	Where      string // [Regular], [Native], [Admission] or ""
	Admin      string // where its admin listens; "" when nothing says it
	AdminWhy   string // what says it
	Why        string // how it was recognised
	Confidence Confidence
	Config     *Bootstrap // its configuration; nil where it stands in none of the files
	Doubt      string     // the question whether a container is one, where nobody can tell; then there is none
	OptedOut   string     // why no mesh adds a proxy although something asks for one; "" otherwise
}

// Found reports whether there is a proxy.
func (e *Envoy) Found() bool { return e.Where != "" }

// KnownMark is a row of the table by which a pod or its namespace asks a mesh for a proxy.
type KnownMark struct{ Key, Value, Mesh string }

// Marks returns that table; Value "" is any value. Sources: istio/api annotation and label; consul-k8s
// control-plane/connect-inject/constants/annotations_and_labels.go; kuma pkg/plugins/runtime/k8s/metadata/annotations.go;
// aws-app-mesh-controller-for-k8s pkg/inject; openservicemesh pkg/constants.
func Marks() []KnownMark {
	return []KnownMark{
		{"sidecar.istio.io/inject", "true", "istio"},
		{"istio.io/rev", "", "istio"},
		{"proxy.istio.io/config", "", "istio"},
		{"inject.istio.io/templates", "", "istio"},
		{"consul.hashicorp.com/connect-inject", "true", "consul"},
		{"kuma.io/sidecar-injection", "enabled", "kuma"},
		{"kuma.io/sidecar-injection", "true", "kuma"},
		{"kuma.io/sidecar-injection", "yes", "kuma"},
		{"appmesh.k8s.aws/sidecarInjectorWebhook", "enabled", "appmesh"},
		{"openservicemesh.io/sidecar-injection", "enabled", "osm"},
		{"openservicemesh.io/sidecar-injection", "yes", "osm"},
		{"openservicemesh.io/sidecar-injection", "true", "osm"},
	}
}

// optOuts are the marks, on the pod, with which a mesh is kept out.
func optOuts() []KnownMark {
	return []KnownMark{
		{"sidecar.istio.io/inject", "false", "istio"},
		{"consul.hashicorp.com/connect-inject", "false", "consul"},
		{"kuma.io/sidecar-injection", "disabled", "kuma"},
		{"kuma.io/sidecar-injection", "false", "kuma"},
		{"kuma.io/sidecar-injection", "no", "kuma"},
		{"appmesh.k8s.aws/sidecarInjectorWebhook", "disabled", "appmesh"},
		{"openservicemesh.io/sidecar-injection", "disabled", "osm"},
		{"openservicemesh.io/sidecar-injection", "no", "osm"},
		{"openservicemesh.io/sidecar-injection", "false", "osm"},
	}
}

// ofNamespace are the labels of a namespace that ask for a proxy in all of its pods.
func ofNamespace() []KnownMark {
	return []KnownMark{
		{"istio-injection", "enabled", "istio"},
		{"istio.io/rev", "", "istio"},
		{"kuma.io/sidecar-injection", "enabled", "kuma"},
		{"kuma.io/sidecar-injection", "true", "kuma"},
		{"appmesh.k8s.aws/sidecarInjectorWebhook", "enabled", "appmesh"},
		{"openservicemesh.io/sidecar-injection", "enabled", "osm"},
		{"openservicemesh.io/sidecar-injection", "yes", "osm"},
		{"openservicemesh.io/sidecar-injection", "true", "osm"},
	}
}

// DefaultAdmin is where the Envoy of a mesh, or with "" Envoy's own examples, has its admin unless told otherwise. Sources: Istio
// ProxyConfig.proxyAdminPort; consul-dataplane -envoy-admin-bind-port; kuma DefaultBootstrapParamsConfig; ENVOY_ADMIN_ACCESS_PORT
// of the App Mesh agent; openservicemesh pkg/constants EnvoyAdminPort.
func DefaultAdmin(mesh string) string {
	return map[string]string{
		"istio": "http://127.0.0.1:15000", "consul": "http://127.0.0.1:19000", "kuma": "http://127.0.0.1:9901", "appmesh": "http://127.0.0.1:9901", "osm": "http://127.0.0.1:15000",
	}[mesh]
}

// meshOf tells the mesh of a container by its image or its name, which injectors choose. "" is none.
func meshOf(c candidate) (mesh, why string) {
	switch {
	case c.image.name == "ztunnel", slices.ContainsFunc(c.commands, func(line []string) bool { return slices.Contains(line, "ztunnel") }):
		return "", ""
	case slices.Contains([]string{"proxyv2", "proxyv2-rhel8", "proxyv2-rhel9"}, c.image.name):
		return "istio", "image " + c.Image
	case c.image.name == "consul-dataplane":
		return "consul", "image " + c.Image
	case slices.Contains([]string{"kuma-dp", "kong-mesh-dp"}, c.image.name):
		return "kuma", "image " + c.Image
	case c.image.name == "aws-appmesh-envoy":
		return "appmesh", "image " + c.Image
	case c.Name == "istio-proxy":
		return "istio", "Istio calls its proxy istio-proxy"
	case c.Name == "kuma-sidecar":
		return "kuma", "Kuma calls its proxy kuma-sidecar"
	case c.Name == "consul-dataplane":
		return "consul", "Consul calls its proxy consul-dataplane"
	}
	return "", ""
}

// looksLikeEnvoy judges one container. "" is no Envoy.
func looksLikeEnvoy(c candidate) (Confidence, string) {
	for _, env := range c.Env {
		if env.Name == "DISABLE_ENVOY" && env.Value == "true" {
			return "", "" // Istio's grpc-agent: no Envoy runs
		}
	}
	if _, known := knownTable(c); known != "" || managesShutdown(c) {
		return "", ""
	}
	for _, line := range c.commands {
		if line[0] == "envoy" && !slices.Contains(line, "validate") || len(line) > 1 && line[0] == "" && line[1] == "envoy" && len(line) > 2 && strings.HasPrefix(line[2], "-") {
			return High, "its command runs envoy"
		}
		if line[0] == "pilot-agent" && slices.Contains(line, "proxy") {
			return High, "its command runs pilot-agent proxy"
		}
	}
	if mesh, why := meshOf(c); mesh != "" {
		return High, why
	}
	bare := len(c.commands) == 0 || c.commands[0][0] == "" // the image's own entry point
	envoyImage := isEnvoyImage(c.image)
	args := len(c.Args) > 0 && strings.HasPrefix(c.Args[0], "-") && slices.ContainsFunc(slices.Concat(c.Command, c.Args), func(arg string) bool {
		return slices.Contains([]string{"--service-node", "--config-yaml", "--disable-hot-restart", "--service-cluster", "--restart-epoch"}, strings.SplitN(arg, "=", 2)[0])
	})
	switch {
	case envoyImage && bare:
		return High, "image " + c.Image
	case envoyImage:
		return Likely, "image " + c.Image + ", although its command is not envoy's"
	case args && bare:
		return High, "its arguments are Envoy's"
	case slices.Contains(c.image.word, "envoy") && (c.Name == "envoy" || portNamed(c, "envoy-admin")):
		return Likely, "its image " + c.image.path + " and its name say Envoy"
	case portNamed(c, "envoy-admin"), portNumbered(c, 15006) && portNumbered(c, 15090):
		return Likely, "its ports are those of an Envoy"
	case c.Name == "envoy" && bare && !slices.Contains(c.image.word, "nginx"), c.Name == "envoy-proxy" && bare, c.Name == "envoy-sidecar" && bare:
		return Likely, "its name is " + c.Name
	case portNumbered(c, 15090) && portNamed(c, "http-envoy-prom"):
		return Likely, "its port 15090 is Istio's for Envoy's statistics"
	case bare && namesEnvoy(c.image) && c.image.word[0] != "envoy":
		return Unsure, "its image " + c.image.name + " may be an Envoy of somebody's own"
	}
	return "", ""
}

// isEnvoyImage reports whether an image's last segment names Envoy itself and not something around it: envoy, envoy-distroless,
// cilium-envoy, envoy-wrapper; not envoy-gateway, envoy-ratelimit, envoyproxy/nighthawk.
func isEnvoyImage(i image) bool {
	at := slices.Index(i.word, "envoy")
	return namesEnvoy(i) && (at == 0 || slices.ContainsFunc(i.word[:at], func(word string) bool {
		return slices.Contains([]string{"cilium", "aws", "appmesh", "gloo", "my", "custom", "our", "getenvoy", "func", "istio", "contour", "base", "bitnami", "distroless"}, word)
	}))
}

// namesEnvoy reports whether an image's last segment ends with envoy, variants of a build aside.
func namesEnvoy(i image) bool {
	at := slices.Index(i.word, "envoy")
	if at < 0 {
		return false
	}
	for _, word := range i.word[at+1:] {
		if !slices.Contains([]string{"alpine", "distroless", "dev", "debug", "contrib", "fips", "wrapper", "google", "vrp", "static", "windows", "debian", "ubuntu", "base", "custom", "sidecar", "proxy", "lts", "amd64", "arm64"}, word) &&
			strings.Trim(word, "0123456789v") != "" {
			return false
		}
	}
	return true
}

func portNamed(c candidate, name string) bool {
	return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == name })
}

func portNumbered(c candidate, number int32) bool {
	return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.ContainerPort == number })
}

// envoy finds the pod's proxy.
func (in *Input) envoy(all []candidate, said map[string]Role) (Envoy, []string) {
	var found []Envoy
	doubt := ""
	for _, c := range all {
		if role, isSaid := said[c.Name]; isSaid && role != Proxy || in.Proxy == "none" {
			continue
		}
		e := Envoy{Container: c.Name, Where: Regular}
		e.Confidence, e.Why = looksLikeEnvoy(c)
		e.Mesh, _ = meshOf(c)
		switch {
		case said[c.Name] == Proxy:
			e.Confidence, e.Why = High, "the user says so"
		case in.Proxy == c.Name:
			e.Confidence, e.Why = High, "--proxy="+in.Proxy
		case in.Proxy != "" && in.Proxy != "auto" && in.Proxy != e.Mesh, e.Why == "":
			continue
		case e.Confidence == Unsure:
			doubt = fmt.Sprintf("container %s: %s; say --role=%[1]s=proxy or what else it is, or annotate the pod with %[3]s: %[1]s=…", c.Name, e.Why, Annotation)
			continue
		}
		if c.native {
			e.Where = Native
		}
		in.configure(&e, c)
		found = append(found, e)
	}
	sure := slices.DeleteFunc(slices.Clone(found), func(e Envoy) bool { return e.Confidence != High })
	switch {
	case len(sure) == 1:
		return sure[0], nil
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		var names []string
		for _, e := range found {
			names = append(names, e.Container+" ("+e.Why+")")
		}
		return found[0], []string{fmt.Sprintf("%s look like Envoy: %s; say which with --proxy=NAME, or annotate the pod with %s: NAME=proxy",
			map[bool]string{true: "two containers", false: "several containers"}[len(found) == 2], strings.Join(names, " and "), Annotation)}
	case in.Proxy == "none":
		return Envoy{}, nil
	case DefaultAdmin(in.Proxy) != "":
		return in.admission(in.Proxy, "--proxy="+in.Proxy)
	case in.Proxy != "" && in.Proxy != "auto":
		return Envoy{}, []string{fmt.Sprintf("no container %s for --proxy; name a container, istio, consul, kuma or none", in.Proxy)}
	}
	e, problems := in.asked()
	if !e.Found() && e.OptedOut == "" {
		e.Doubt = doubt
	}
	return e, problems
}

// asked finds the mesh that adds a proxy at admission.
func (in *Input) asked() (Envoy, []string) {
	for _, mark := range Marks() {
		for _, from := range []map[string]string{in.Pod.Labels, in.Pod.Annotations} {
			if value, has := from[mark.Key]; has && (mark.Value == "" || mark.Value == value) {
				return in.admission(mark.Mesh, mark.Key+": "+FirstLine(value))
			}
		}
	}
	for _, mark := range ofNamespace() {
		for _, from := range []map[string]string{in.NamespaceLabels, in.NamespaceAnnotations} {
			if value, has := from[mark.Key]; has && (mark.Value == "" || mark.Value == value) {
				return in.admission(mark.Mesh, "its namespace has "+mark.Key+": "+value)
			}
		}
	}
	return Envoy{}, nil
}

// admission is the proxy that a mesh adds; none where the pod keeps that mesh out.
func (in *Input) admission(mesh, why string) (Envoy, []string) {
	if out := in.optedOut(mesh); out != "" {
		return Envoy{OptedOut: out}, nil
	}
	e := Envoy{Mesh: mesh, Where: Admission, Why: why, Confidence: High}
	in.configure(&e, candidate{Container: &corev1.Container{}})
	return e, nil
}

func (in *Input) optedOut(mesh string) string {
	for _, mark := range optOuts() {
		for _, from := range []map[string]string{in.Pod.Labels, in.Pod.Annotations} {
			if mark.Mesh == mesh && from[mark.Key] == mark.Value {
				return mark.Key + ": " + mark.Value
			}
		}
	}
	switch {
	case mesh == "istio" && in.Pod.Spec.HostNetwork:
		return "hostNetwork, where Istio adds no proxy"
	case mesh == "istio" && in.NamespaceLabels["istio-injection"] == "disabled":
		return "its namespace has istio-injection: disabled"
	case strings.HasPrefix(in.Pod.Annotations["inject.istio.io/templates"], "grpc-"):
		return "inject.istio.io/templates: " + in.Pod.Annotations["inject.istio.io/templates"] + ", an agent for gRPC without Envoy"
	}
	return ""
}

// configure finds the proxy's configuration and its admin.
func (in *Input) configure(e *Envoy, c candidate) {
	for _, text := range in.configTexts(c) {
		if b, ok := ParseBootstrap(text.value); ok {
			e.Config = b
			e.Admin, e.AdminWhy = b.Admin, text.from
			if b.Admin != "" {
				break
			}
		}
	}
	port, why := in.meshAdminPort(e.Mesh, c)
	switch {
	case port > 0 && (e.Admin == "" || e.Mesh != ""):
		e.Admin, e.AdminWhy = "http://127.0.0.1:"+strconv.Itoa(port), why
	case e.Admin != "":
	case in.contour(c) != "":
		e.Admin, e.AdminWhy = in.contour(c), "contour bootstrap writes it"
	case DefaultAdmin(e.Mesh) != "":
		e.Admin, e.AdminWhy = DefaultAdmin(e.Mesh), "the default of "+e.Mesh
	case slices.Contains([]string{"gloo-envoy-wrapper", "envoy-wrapper"}, c.image.name):
		e.Admin, e.AdminWhy = "http://127.0.0.1:19000", "the default of "+c.image.name
	default:
		for _, p := range c.Ports {
			if p.Name == "envoy-admin" || p.Name == "admin" {
				e.Admin, e.AdminWhy = fmt.Sprintf("http://127.0.0.1:%d", p.ContainerPort), "its port is called "+p.Name
			}
		}
	}
}

type configText struct{ value, from string }

// configTexts returns what may be the proxy's configuration: its arguments first, then the ConfigMaps that it mounts, the file
// that -c names before others.
func (in *Input) configTexts(c candidate) (out []configText) {
	if c.Container == nil {
		return nil
	}
	words := slices.Concat(c.Command, c.Args)
	file := ""
	for i, word := range words {
		name, value, joined := strings.Cut(word, "=")
		if !joined && i+1 < len(words) {
			value = words[i+1]
		}
		switch name {
		case "--config-yaml":
			out = append(out, configText{value, "--config-yaml says it"})
		case "-c", "--config-path":
			file = value
		}
	}
	for _, line := range c.commands { // behind a shell
		for i, word := range line {
			if (word == "-c" || word == "--config-path") && i+1 < len(line) && line[0] == "envoy" {
				file = line[i+1]
			}
		}
	}
	for _, mount := range c.VolumeMounts {
		for _, v := range in.Pod.Spec.Volumes {
			if v.Name != mount.Name {
				continue
			}
			for _, found := range in.mounted(v, mount) {
				if found.path == file {
					out = append([]configText{found.configText}, out...)
				} else {
					out = append(out, found.configText)
				}
			}
		}
	}
	return out
}

type mountedText struct {
	configText
	path string
}

func (in *Input) mounted(v corev1.Volume, mount corev1.VolumeMount) (out []mountedText) {
	add := func(name string, items []corev1.KeyToPath) {
		data := in.ConfigMaps[name]
		for _, key := range sortedKeys(data) {
			file := key
			if len(items) > 0 {
				i := slices.IndexFunc(items, func(item corev1.KeyToPath) bool { return item.Key == key })
				if i < 0 {
					continue
				}
				file = items[i].Path
			}
			path := strings.TrimSuffix(mount.MountPath, "/") + "/" + file
			if mount.SubPath != "" {
				if mount.SubPath != file {
					continue
				}
				path = mount.MountPath
			}
			out = append(out, mountedText{configText{data[key], "ConfigMap " + name + ", " + key}, path})
		}
	}
	if v.ConfigMap != nil {
		add(v.ConfigMap.Name, v.ConfigMap.Items)
	}
	if v.Projected != nil {
		for _, source := range v.Projected.Sources {
			if source.ConfigMap != nil {
				add(source.ConfigMap.Name, source.ConfigMap.Items)
			}
		}
	}
	return out
}

// FirstLine shortens a text for a sentence.
func FirstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	if runes := []rune(line); len(runes) > 60 {
		line = string(runes[:60]) + "…"
	}
	return line
}
