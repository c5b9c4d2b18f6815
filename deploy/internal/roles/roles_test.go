package roles_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// pod reads a pod template: labels and annotations below metadata, containers below spec.
func pod(t *testing.T, text string) corev1.PodTemplateSpec {
	t.Helper()
	var p corev1.PodTemplateSpec
	if err := yaml.UnmarshalStrict([]byte(text), &p); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return p
}

// containers writes a pod of these containers, one a line as "{name: a, image: b}".
func containers(lines ...string) string {
	return "spec:\n  containers:\n  - " + strings.Join(lines, "\n  - ") + "\n"
}

const envoy = "{name: envoy, image: \"envoyproxy/envoy:v1.40.0\"}"

func short(p *roles.Pod) string {
	var out []string
	for _, c := range p.Containers {
		one := c.Name + "=" + string(c.Role)
		switch c.Confidence {
		case roles.High:
		case roles.Unsure:
			one += "?"
		case roles.Likely:
			one += "~"
		}
		out = append(out, one)
	}
	return strings.Join(out, " ")
}

func TestRoles(t *testing.T) {
	for _, one := range []struct{ name, pod, want string }{
		{"an app and its Envoy", containers("{name: web, image: \"web:1\", ports: [{containerPort: 8080}]}", envoy), "web=serving envoy=proxy"},
		{"no port is declared", containers("{name: web, image: \"web:1\"}", envoy), "web=serving~ envoy=proxy"},
		{"the Envoy stands first", containers(envoy, "{name: web, image: \"web:1\", ports: [{containerPort: 8080}]}"), "envoy=proxy web=serving"},
		{"rate limit of the organisation envoyproxy", containers("{name: ratelimit, image: \"envoyproxy/ratelimit:19f2079f\", ports: [{containerPort: 8080}]}"), "ratelimit=serving~"},
		{"control plane of Envoy Gateway", containers("{name: envoy-gateway, image: \"docker.io/envoyproxy/gateway:v1.5.0\", args: [server], ports: [{name: grpc, containerPort: 18000}]}"), "envoy-gateway=serving~"},
		{"nighthawk", containers("{name: nighthawk, image: \"envoyproxy/nighthawk-dev:latest\", ports: [{containerPort: 8443}]}"), "nighthawk=serving~"},
		{"Istio's gateway as its documentation has it", containers("{name: istio-proxy, image: auto}"), "istio-proxy=proxy"},
		{"a renamed image of Istio", containers("{name: web, image: \"web:1\", ports: [{containerPort: 80}]}", "{name: istio-proxy, image: \"mirror.example/base/mesh:1\", args: [proxy, sidecar]}"), "web=serving istio-proxy=proxy"},
		{"ztunnel", containers("{name: istio-proxy, image: \"istio/ztunnel:1\", args: [proxy, ztunnel], ports: [{containerPort: 15020}]}"), "istio-proxy=serving~"},
		{"gRPC without Envoy", containers("{name: app, image: \"app:1\", ports: [{containerPort: 80}]}", "{name: istio-proxy, image: \"istio/proxyv2:1\", args: [proxy, sidecar], env: [{name: DISABLE_ENVOY, value: \"true\"}]}"), "app=serving~ istio-proxy=dependency"},
		{"Contour", containers("{name: shutdown-manager, image: \"projectcontour/contour:v1\", command: [/bin/contour], args: [envoy, shutdown-manager]}", "{name: envoy, image: \"envoyproxy/envoy:v1\", args: [-c, /config/envoy.json]}"), "shutdown-manager=helper envoy=proxy"},
		{"Envoy Gateway", containers("{name: envoy, image: \"envoyproxy/envoy:distroless-dev\", command: [envoy], args: [--config-yaml, \"admin: {}\"]}", "{name: shutdown-manager, image: \"envoyproxy/gateway-dev:latest\", command: [envoy-gateway], args: [envoy, shutdown-manager]}"), "envoy=proxy shutdown-manager=helper"},
		{"a database proxy", containers("{name: ledger, image: \"ledger:1\", ports: [{containerPort: 8080}]}", "{name: cloud-sql-proxy, image: \"registry.example/cloud-sql-proxy:2\"}", envoy), "ledger=serving cloud-sql-proxy=dependency envoy=proxy"},
		{"php-fpm behind nginx", containers("{name: php, image: \"php:8.2-fpm\"}", "{name: nginx, image: \"nginx:1\", ports: [{containerPort: 80}]}", envoy), "php=dependency nginx=serving envoy=proxy"},
		{"a worker that its hook quiets", containers("{name: jobs, image: \"jobs:1\", ports: [{containerPort: 8090}], lifecycle: {preStop: {exec: {command: [sh, -c, \"kill -TSTP 1\"]}}}}", envoy), "jobs=worker envoy=proxy"},
		{"celery", containers("{name: tasks, image: \"shop:1\", command: [celery, -A, shop, worker]}", envoy), "tasks=worker envoy=proxy"},
		{"an app called worker that declares a port", containers("{name: worker, image: \"w:1\", ports: [{containerPort: 8080}]}", envoy), "worker=serving? envoy=proxy"},
		{"two that nothing is known of", containers("{name: a, image: \"a:1\"}", "{name: b, image: \"b:1\"}", envoy), "a=serving? b=serving? envoy=proxy"},
		{"the user's word", "metadata: {annotations: {drain-agent.io/roles: \"a=worker,b=helper\"}}\n" + containers("{name: a, image: \"a:1\"}", "{name: b, image: \"b:1\"}", envoy), "a=worker b=helper envoy=proxy"},
		{"work of a Job", "spec:\n  restartPolicy: Never\n  containers:\n  - {name: fetch, image: \"s:1\", ports: [{containerPort: 9100}]}\n  - {name: upload, image: \"s:1\"}\n  - " + envoy, "fetch=worker upload=worker envoy=proxy"},
		{"envoy in an argument only", containers("{name: app, image: \"app:1\", args: [--upstream=envoy], ports: [{containerPort: 80}]}"), "app=serving~"},
		{"envoy that only validates", containers("{name: check, image: \"envoyproxy/envoy:v1\", command: [envoy, --mode, validate, -c, /a]}"), "check=proxy~"},
	} {
		got := roles.Assign(roles.Input{Pod: pod(t, one.pod)})
		if short(got) != one.want {
			t.Errorf("%s: %s, want %s", one.name, short(got), one.want)
		}
		if asked := strings.Count(one.want, "?"); len(got.Questions) != asked {
			t.Errorf("%s: questions %q", one.name, got.Questions)
		}
	}
}

func TestEnvoysConfigurationIsReadAsYAML(t *testing.T) {
	const base = "spec:\n  containers:\n  - {name: web, image: \"web:1\", ports: [{containerPort: 8080}]}\n  - {name: envoy, image: \"envoyproxy/envoy:v1\", args: [-c, /etc/envoy/envoy.yaml], volumeMounts: [{name: c, mountPath: /etc/envoy}]}\n  volumes: [{name: c, configMap: {name: envoy}}]\n"
	for text, want := range map[string]string{
		"# admin: see below\nstatic_resources:\n  listeners:\n  - address: {socket_address: {address: 0.0.0.0, port_value: 10000}}\nadmin:\n  address: {socket_address: {address: 127.0.0.1, port_value: 9901}}\n": "http://127.0.0.1:9901",
		"#admin: {address: {socket_address: {port_value: 8001}}}\nadmin: {address: {socket_address: {port_value: 9902}}}\n":                                                                                        "http://127.0.0.1:9902",
		"static_resources: {clusters: [{name: admin}]}\nadmin:\n  access_log: [{typed_config: {path: /dev/stdout.sock}}]\n  address: {pipe: {path: /run/admin.sock}}\n":                                            "unix:///run/admin.sock",
		`{"admin": {"address": {"socketAddress": {"address": "0.0.0.0", "portValue": 19000}}}}`:                                                                                                                    "http://127.0.0.1:19000",
		"admin: {address: {socket_address: {port_value: \"${ADMIN_PORT}\"}}}\n":                                                                                                                                    "",
	} {
		in := roles.Input{Pod: pod(t, base), Neighbours: roles.Neighbours{ConfigMaps: map[string]map[string]string{"envoy": {"a.txt": "admin: {address: {socket_address: {port_value: 7}}}", "envoy.yaml": text}}}}
		got := roles.Assign(in).Envoy
		if want == "" && got.Admin == "http://127.0.0.1:7" { // the other file of the ConfigMap is the next best
			continue
		}
		if got.Admin != want {
			t.Errorf("%q: admin %q (%s), want %q", text, got.Admin, got.AdminWhy, want)
		}
	}
}

func TestWhoEnvoyLeadsToAndWhomItAsks(t *testing.T) {
	const config = `
static_resources:
  listeners:
  - traffic_direction: INBOUND
    address: {socket_address: {address: 0.0.0.0, port_value: 10000}}
    filter_chains:
    - filters:
      - typed_config:
          route_config: {virtual_hosts: [{routes: [{route: {cluster: app}}]}]}
          http_filters:
          - typed_config: {grpc_service: {envoy_grpc: {cluster_name: authz}}}
  - traffic_direction: OUTBOUND
    address: {socket_address: {address: 127.0.0.1, port_value: 5432}}
    filter_chains: [{filters: [{typed_config: {cluster: sql}}]}]
  clusters:
  - {name: app, load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 8080}}}}]}]}}
  - {name: authz, load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: localhost, port_value: 9191}}}}]}]}}
  - {name: sql, load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 6432}}}}]}]}}
`
	in := roles.Input{
		Pod: pod(t, "spec:\n  containers:\n  - {name: check, image: \"check:1\", ports: [{containerPort: 9191}]}\n  - {name: first, image: \"first:1\", ports: [{containerPort: 9000}]}\n  - {name: api, image: \"api:1\", ports: [{containerPort: 8080}]}\n  - {name: envoy, image: \"envoyproxy/envoy:v1\", volumeMounts: [{name: c, mountPath: /c}]}\n  volumes: [{name: c, projected: {sources: [{configMap: {name: envoy}}]}}]\n"),
		Neighbours: roles.Neighbours{
			ConfigMaps:  map[string]map[string]string{"envoy": {"envoy.yaml": config}},
			TargetPorts: []intstr.IntOrString{intstr.FromInt32(10000)},
		},
	}
	got := roles.Assign(in)
	if want := "check=dependency first=serving~ api=serving envoy=proxy"; short(got) != want {
		t.Errorf("%s, want %s", short(got), want)
	}
	if api, _ := got.Named("api"); api.Port != 8080 || !strings.Contains(api.Evidence, "leads to its port 8080") {
		t.Errorf("%+v", api)
	}
}

func TestMeshes(t *testing.T) {
	web := containers("{name: web, image: \"web:1\", ports: [{containerPort: 8080}]}")
	for _, one := range []struct {
		name, pod         string
		beside            roles.Neighbours
		where, mesh, port string
	}{
		{"Kuma's port", "metadata: {labels: {kuma.io/sidecar-injection: enabled}, annotations: {kuma.io/envoy-admin-port: \"9902\"}}\n" + web, roles.Neighbours{}, roles.Admission, "kuma", "9902"},
		{"Kuma's port of an injected pod", containers("{name: kuma-sidecar, image: \"mirror/x:1\", env: [{name: KUMA_DATAPLANE_ADMIN_PORT, value: \"9903\"}]}"), roles.Neighbours{}, roles.Regular, "kuma", "9903"},
		{"proxyAdminPort of the pod", "metadata: {annotations: {proxy.istio.io/config: \"proxyAdminPort: 15777\"}}\n" + web, roles.Neighbours{}, roles.Admission, "istio", "15777"},
		{"proxyAdminPort of the mesh", "metadata: {labels: {sidecar.istio.io/inject: \"true\"}}\n" + web, roles.Neighbours{MeshConfigs: []string{"defaultConfig:\n  proxyAdminPort: 15888\n"}}, roles.Admission, "istio", "15888"},
		{"opted out", "metadata: {labels: {istio.io/rev: default, sidecar.istio.io/inject: \"false\"}}\n" + web, roles.Neighbours{}, "", "", ""},
		{"opted out by annotation", "metadata: {labels: {istio.io/rev: default}, annotations: {sidecar.istio.io/inject: \"false\"}}\n" + web, roles.Neighbours{}, "", "", ""},
		{"the namespace asks", web, roles.Neighbours{NamespaceLabels: map[string]string{"istio-injection": "enabled"}}, roles.Admission, "istio", "15000"},
		{"the namespace asks, the pod declines", "metadata: {labels: {sidecar.istio.io/inject: \"false\"}}\n" + web, roles.Neighbours{NamespaceLabels: map[string]string{"istio-injection": "enabled"}}, "", "", ""},
		{"the host's network", "metadata: {labels: {sidecar.istio.io/inject: \"true\"}}\n" + strings.Replace(web, "spec:\n", "spec:\n  hostNetwork: true\n", 1), roles.Neighbours{}, "", "", ""},
		{"Consul's port", containers("{name: consul-dataplane, image: \"hashicorp/consul-dataplane:1\", args: [-envoy-admin-bind-port=19001]}"), roles.Neighbours{}, roles.Regular, "consul", "19001"},
	} {
		got := roles.Assign(roles.Input{Pod: pod(t, one.pod), Neighbours: one.beside}).Envoy
		if got.Where != one.where || got.Mesh != one.mesh || one.port != "" && got.Admin != "http://127.0.0.1:"+one.port {
			t.Errorf("%s: %+v", one.name, got)
		}
		if (one.where == "") != (got.OptedOut != "") {
			t.Errorf("%s: opted out: %q", one.name, got.OptedOut)
		}
	}
}

func TestUserAsksForWhatIsNotThere(t *testing.T) {
	web := pod(t, containers("{name: web, image: \"web:1\"}", "{name: a, image: envoy}", "{name: b, image: envoy}"))
	for name, want := range map[string]string{"auto": "two containers look like Envoy", "other": "no container other for --proxy"} {
		if got := roles.Assign(roles.Input{Pod: web, Proxy: name}); len(got.Questions) == 0 || !strings.Contains(got.Questions[0], want) {
			t.Errorf("--proxy=%s: %q", name, got.Questions)
		}
	}
	web.Annotations = map[string]string{roles.Annotation: "web=app,b=helper,c=worker"}
	got := roles.Assign(roles.Input{Pod: web})
	if all := strings.Join(got.Questions, "\n"); !strings.Contains(all, `"app" is no role`) || !strings.Contains(all, "no container c") || len(got.Questions) != 2 {
		t.Errorf("%q", got.Questions)
	}
}

// An image of somebody's own that ends with envoy is asked about, unless something else in the pod is an Envoy, or the user has said it.
func TestAnImageThatMayBeAnEnvoyIsAQuestion(t *testing.T) {
	const own = "{name: front, image: \"registry.example:5000/shop/shop-envoy:3\"}"
	web := "{name: web, image: \"web:1\", ports: [{containerPort: 8080}]}"
	for _, one := range []struct {
		containers []string
		said       map[string]roles.Role
		asks       bool
	}{
		{[]string{web, own}, nil, true},
		{[]string{web, own}, map[string]roles.Role{"front": roles.Helper}, false},
		{[]string{web, own, envoy}, nil, false},
		{[]string{web, "{name: front, image: \"shop/shop-envoy:3\", command: [/manager]}"}, nil, false}, // it runs something else
		{[]string{web, "{name: front, image: \"shop/shop-envoy-control-plane:3\"}"}, nil, false},
	} {
		found := roles.Assign(roles.Input{Pod: pod(t, containers(one.containers...)), Roles: one.said})
		if asks := strings.Contains(found.Envoy.Doubt, "--role=front=proxy"); asks != one.asks || asks && found.Envoy.Found() {
			t.Errorf("%v: %q, want a question: %v", one.containers, found.Envoy.Doubt, one.asks)
		}
	}
}
