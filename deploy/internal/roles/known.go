package roles

import (
	"path"
	"slices"
	"strings"
)

// Program is a row of the table of programs that pods have beside their app.
type Program struct {
	Role   Role
	What   string // in one sentence
	Images string // last segments of image references, as fields
	Words  string // programs or first arguments, as fields: any of them among the command's words
	Source string
	Asked  bool // by the proxy: without one in the pod it is a server like any other
}

// Programs returns that table. A row is there because its documentation says what the program does when its pod stops.
func Programs() []Program {
	return []Program{
		{Helper, "a shutdown manager, which drain-agent takes the place of", "", "shutdown-manager", "projectcontour.io/docs/main/redeploy-envoy; gateway.envoyproxy.io/docs/tasks/operations/graceful-shutdown", false},
		{Helper, "reloads configuration", "prometheus-config-reloader configmap-reload configmap-reloader config-reloader k8s-sidecar reloader git-sync kube-gen", "", "github.com/prometheus-operator/prometheus-operator; github.com/jimmidyson/configmap-reload; github.com/kiwigrid/k8s-sidecar; github.com/kubernetes/git-sync", false},
		{Helper, "sizes another container", "addon-resizer", "pod_nanny", "github.com/kubernetes/autoscaler/tree/master/addon-resizer", false},
		{Helper, "tells figures of another container", "redis_exporter redis-exporter postgres_exporter postgres-exporter mysqld-exporter mysqld_exporter nginx-exporter nginx-prometheus-exporter php-fpm_exporter php-fpm-exporter statsd-exporter memcached-exporter mongodb-exporter mongodb_exporter jmx-exporter apache-exporter kafka-exporter pgbouncer-exporter node-exporter blackbox-exporter rabbitmq-exporter", "", "prometheus.io/docs/instrumenting/exporters", false},
		{Helper, "tells kubelet about a CSI driver", "csi-node-driver-registrar livenessprobe", "", "kubernetes-csi.github.io/docs/sidecar-containers.html", false},
		{Dependency, "a database proxy, which others write through until they end", "cloud-sql-proxy cloudsql-proxy gce-proxy cloud_sql_proxy alloydb-auth-proxy pgbouncer pgcat pgpool odyssey proxysql mysql-router rds-proxy twemproxy", "cloud_sql_proxy cloud-sql-proxy alloydb-auth-proxy pgbouncer proxysql", "github.com/GoogleCloudPlatform/cloud-sql-proxy (--quitquitquit, issue 317); github.com/GoogleCloudPlatform/alloydb-auth-proxy; pgbouncer.org", false},
		{Dependency, "a collector, which takes what others still have to tell", "opentelemetry-collector opentelemetry-collector-contrib opentelemetry-collector-k8s otelcol otelcol-contrib aws-otel-collector adot-collector otel-collector jaeger-agent aws-xray-daemon xray-daemon datadog-agent dogstatsd statsd telegraf veneur", "otelcol otelcol-contrib", "opentelemetry.io/docs/collector/deployment/agent; docs.aws.amazon.com/xray", false},
		{Dependency, "a log shipper, which reads to the end what others write", "fluent-bit fluentbit aws-for-fluent-bit fluentd filebeat promtail vector logstash-forwarder grafana-agent alloy", "fluent-bit fluentd filebeat promtail", "docs.fluentbit.io; kubernetes.io/docs/concepts/cluster-administration/logging", false},
		{Dependency, "decides about requests that the proxy asks it for", "opa opa-envoy-plugin opa-istio ext-authz ext_authz contour-authserver authorino styra", "", "openpolicyagent.org/docs/envoy; envoyproxy.io ext_authz", true},
		{Dependency, "limits rates for the proxy that asks it", "ratelimit", "", "github.com/envoyproxy/ratelimit", true},
		{Dependency, "renews secrets that others read", "vault-agent spiffe-helper conjur-authn-k8s-client secrets-store", "vault-agent", "developer.hashicorp.com/vault/docs/agent-and-proxy/agent", false},
		{Dependency, "a proxy that others call through", "linkerd-proxy linkerd2-proxy ambassador-telepresence-agent daprd tailscale oauth2-proxy-upstream", "", "linkerd.io/2/features/proxy; docs.dapr.io/concepts/dapr-services/sidecar", false},
		{Worker, "a queue worker by its command", "", "celery sidekiq resque rq rqworker dramatiq huey faktory-worker delayed_job good_job solid_queue que queue:work queue:listen horizon messenger:consume sidekiqswarm shoryuken karafka racecar", "docs.celeryq.dev; github.com/sidekiq/sidekiq; laravel.com/docs/queues; symfony.com/doc/current/messenger.html", false},
	}
}

// managesShutdown reports whether a container is the shutdown manager of a gateway.
func managesShutdown(c candidate) bool {
	return slices.ContainsFunc(c.commands, func(line []string) bool { return slices.Contains(line[:min(len(line), 5)], "shutdown-manager") }) || c.Name == "shutdown-manager"
}

// knownTable looks a container up. The sentence is empty where it is unknown.
func knownTable(c candidate) (Program, string) {
	for _, row := range Programs() {
		if slices.Contains(strings.Fields(row.Images), c.image.name) {
			return row, "its image " + c.image.name + " is known: " + row.What
		}
		for _, line := range c.commands {
			for i, word := range line[:min(len(line), 5)] {
				if slices.Contains(strings.Fields(row.Words), path.Base(word)) && !strings.HasPrefix(word, "-") && (i < 2 || row.Role != Dependency) {
					return row, "its command " + FirstLine(strings.TrimSpace(strings.Join(line, " "))) + " is known: " + row.What
				}
			}
		}
	}
	return Program{}, ""
}

// known decides a role by what the container is, without looking at the others. "" is undecided.
func (in *Input) known(c candidate, e Envoy) (Role, Confidence, string) {
	if c.Name == "drain-agent" && (c.image.name == "drain-agent" || len(c.Args) > 0 && c.Args[0] == "run") {
		return Agent, High, "it is drain-agent"
	}
	if port, cluster := led(c, e); port > 0 {
		return Serving, High, "Envoy's cluster " + cluster + " leads to its port " + portText(port)
	}
	for _, p := range c.Ports {
		if e.Config == nil {
			break
		}
		if name, asked := e.Config.Consults[p.ContainerPort]; asked {
			return Dependency, High, "Envoy itself asks its port " + portText(p.ContainerPort) + " (cluster " + name + ")"
		}
	}
	row, what := knownTable(c)
	role, found := row.Role, what != ""
	for _, env := range c.Env {
		if env.Name == "DISABLE_ENVOY" && env.Value == "true" && (c.Name == "istio-proxy" || c.image.name == "proxyv2") {
			return Dependency, High, "it is Istio's agent for gRPC without Envoy: others have their configuration from it"
		}
	}
	switch {
	case found && role == Worker:
		return Worker, High, what
	case row.Asked && !e.Found():
		return "", "", ""
	case found && in.alone(c) && (role == Dependency || !e.Found()):
		return Serving, High, what + ", and it is the only one here"
	case found && role == Dependency && in.serviceSelects(c) && in.onlyUnknown(c):
		return Serving, High, what + ", and a Service leads to it"
	case found:
		return role, High, what
	case c.Name == "linkerd-proxy":
		return Dependency, High, "Linkerd calls its proxy linkerd-proxy: others call through it"
	case c.image.name == "vault" && slices.ContainsFunc(c.commands, func(line []string) bool { return slices.Contains(line[:min(len(line), 3)], "agent") }):
		return Dependency, High, "it runs vault agent, which renews secrets that others read"
	case c.Name == "vault-agent":
		return Dependency, High, "Vault calls its agent vault-agent"
	case managesShutdown(c):
		return Helper, High, "it is a shutdown manager"
	case c.native && e.Container != c.Name && in.Ends():
		return Helper, Likely, "a native sidecar of a pod that ends with its work: kubelet ends it"
	}
	return in.exporter(c)
}

// exporter finds the helpers that are known by the form of their name.
func (in *Input) exporter(c candidate) (Role, Confidence, string) {
	last := func(w []string) string { return append(w, "")[max(len(w)-1, 0)] }
	if !in.alone(c) && (last(c.image.word) == "exporter" || last(words(c.Name)) == "exporter" || c.Name == "metrics" && onlyMetrics(c)) {
		return Helper, Likely, "its name is that of an exporter of figures"
	}
	return "", "", ""
}

// alone reports whether nothing else runs in the pod, the agent aside.
func (in *Input) alone(c candidate) bool {
	for _, one := range in.candidates() {
		if one.Name != c.Name && one.Name != "drain-agent" {
			if confidence, _ := looksLikeEnvoy(one); confidence == "" || confidence == Unsure {
				return false
			}
		}
	}
	return true
}

// onlyUnknown reports whether every other container is a proxy or known too.
func (in *Input) onlyUnknown(c candidate) bool {
	for _, one := range in.candidates() {
		if _, what := knownTable(one); one.Name != c.Name && what == "" {
			if confidence, _ := looksLikeEnvoy(one); confidence == "" || confidence == Unsure {
				return false
			}
		}
	}
	return true
}
