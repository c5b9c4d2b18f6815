package lint_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/deploy/internal/lint"
)

// Manifests that look like a breach and are none: for every rule at least one. Each was told, or would be by a rule that
// judges by a word alone.
func negatives() []breach {
	web1 := "        image: registry.example/web:1\n"
	hook := "        lifecycle:\n          preStop:\n            sleep: {seconds: 15}\n"
	live := "        livenessProbe:\n          httpGet: {path: /livez, port: http}\n"
	ready := "        readinessProbe:\n          httpGet: {path: /readyz, port: http}\n"
	beside := "      - name: istio-proxy\n        image: auto\n"
	rule := "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: shop}\nspec:\n  host: web\n  trafficPolicy:\n    outlierDetection: {consecutive5xxErrors: 5}\n"
	return []breach{
		{"agent-arguments", "agent", []string{"--grace-period=60s", "--grace-period=1m"}},
		{"agent-image", "agent", []string{"ghcr.io/drain-agent/drain-agent:v0.1.0-dev", "localhost:5000/drain-agent:v1"}},
		{"waits-for-later", "agent", []string{"@swap", "", "path: /startupz,", "path: /startupz/proxy,"}},
		{"strategy-takes-all", "plain", []string{"  replicas: 3\n", "  replicas: 1\n  strategy: {type: Recreate}\n"}},
		{"strategy-takes-all", "plain", []string{"  replicas: 3\n", "  replicas: 1\n  strategy: {rollingUpdate: {maxUnavailable: 50%}}\n"}},
		{"strategy-takes-all", "plain", []string{"  replicas: 3\n", "  replicas: 1\n  strategy: {rollingUpdate: {maxUnavailable: 1}}\n", "", hpa(3)}},
		{"shell-is-process-one", "plain", []string{web1, web1 + "        command: [/bin/sh, -c, exec ./server]\n"}},
		{"shell-is-process-one", "plain", []string{web1, web1 + "        command: [/bin/sh, -ec, \"./migrate\\nexec ./server --port=8080\"]\n"}},
		{"shell-is-process-one", "plain", []string{web1, web1 + "        command: [/bin/bash, -c, ./server]\n"}},
		{"shell-is-process-one", "plain", []string{web1, web1 + "        command: [/bin/sh, -c, \"trap 'kill $pid' TERM; ./server & pid=$!; wait\"]\n"}},
		{"shell-is-process-one", "plain", []string{web1, web1 + "        command: [/bin/sh, -c, sleep infinity]\n"}},
		{"shell-is-process-one", "plain", []string{web1, web1 + "        command: [tini, --, sh, -c, ./server]\n"}},
		{"shell-is-process-one", "plain", []string{web1, web1 + "        command: [/bin/sh, -c, ./server]\n", "sleep: {seconds: 15}", "exec: {command: [/bin/sh, -c, sleep 5; kill $(pidof server)]}"}},
		{"shell-is-process-one", "plain", []string{"    spec:\n", "    spec:\n      shareProcessNamespace: true\n", web1, web1 + "        command: [/bin/sh, -c, ./server]\n"}},
		{"budget-over-grace", "agent", []string{"GracePeriodSeconds: 60", "GracePeriodSeconds: 20", "--grace-period=60s", "--grace-period=20s"}},
		{"request-over-grace", "agent", []string{"        team: shop\n", "        drain-agent.io/longest-request: 40s\n"}},
		{"request-over-grace", "plain", []string{"        team: shop\n", "        drain-agent.io/longest-request: 45s\n"}},
		{"grace-mismatch", "agent", []string{"--grace-period=60s", "--grace-period=1m0s"}},
		{"grace-default", "job", nil},
		{"sleep-over-grace", "plain", []string{"sleep: {seconds: 15}", `exec: {command: [/bin/sh, -c, "while pgrep nginx; do sleep 90; done"]}`}},
		{"sleep-over-grace", "plain", []string{"sleep: {seconds: 15}", `exec: {command: [/bin/sh, -c, "nginx -s quit || sleep 90"]}`}},
		{"sleep-over-grace", "plain", []string{"sleep: {seconds: 15}", `exec: {command: [/bin/sh, -c, "echo do not sleep 90"]}`}},
		{"sleep-over-grace", "plain", []string{"sleep: {seconds: 15}", `exec: {command: [/bin/sh, -c, "sleep 90 & nginx -s quit"]}`}},
		{"sleep-over-grace", "plain", []string{"seconds: 15", "seconds: 59"}}, // the other rule's
		{"sleep-leaves-little", "plain", []string{"seconds: 15", "seconds: 55"}},
		{"sleep-leaves-little", "plain", []string{"seconds: 15", "seconds: 60"}}, // the other rule's
		{"grace-zero", "job", []string{"      restartPolicy: Never\n", "      restartPolicy: Never\n      terminationGracePeriodSeconds: 0\n"}},
		{"grace-zero", "plain", []string{"GracePeriodSeconds: 60", "GracePeriodSeconds: 0", web1, web1 + "        command: [sleep, infinity]\n", "targetPort: inbound", "targetPort: http", hook, ""}},
		{"deregistration-over-grace", "plain", []string{"  name: web\n  namespace: shop\nspec:\n  selector: {app: web}", "  name: web\n  namespace: shop\n  annotations: {service.beta.kubernetes.io/aws-load-balancer-type: nlb}\nspec:\n  selector: {app: web}", "GracePeriodSeconds: 60", "GracePeriodSeconds: 200"}},
		{"deregistration-over-grace", "plain", []string{"  selector: {app: web}", "  type: LoadBalancer\n  selector: {app: web}"}},
		{"long-stop", "plain", []string{"GracePeriodSeconds: 60", "GracePeriodSeconds: 120"}},
		{"proxy-races-app", "plain", []string{"restartPolicy: Always", "restartPolicy: Always\n        command: [envoy]"}},
		{"sidecar-order", "agent", []string{"@swap", "", "- --hooks=app", "- --outlives-me=proxy\n        - --hooks=app"}},
		{"stop-order", "agent", []string{"--stop-order=app,proxy", "--stop-order=app+proxy"}},
		{"job-never-ends", "job", []string{"- name: settle", "- name: upload\n        image: registry.example/upload:1\n      - name: settle"}},
		{"job-never-ends", "job", []string{"", inConsul("./migrate; curl -XPOST http://127.0.0.1:20600/graceful_shutdown")}},
		{"job-never-ends", "job", []string{"", strings.ReplaceAll(inConsul("./migrate"), "annotations: {consul.hashicorp.com/connect-inject: \"true\"", "labels: {kuma.io/sidecar-injection: enabled")}},
		{"publish-not-ready", "plain", []string{"  selector: {app: web}\n  ports", "  publishNotReadyAddresses: true\n  clusterIP: None\n  selector: {app: web}\n  ports"}},
		{"publish-not-ready", "plain", []string{"  selector: {app: web}\n  ports", "  publishNotReadyAddresses: true\n  selector: {app: web, statefulset.kubernetes.io/pod-name: web-0}\n  ports"}},
		{"no-prestop", "plain", []string{hook, "", "kind: Deployment", "kind: StatefulSet"}},
		{"no-prestop", "plain", []string{hook, "", "GracePeriodSeconds: 60", "GracePeriodSeconds: 300"}}, // the app goes on serving after SIGTERM
		{"no-prestop", "plain", []string{hook, "", web1, "        image: registry.example:5000/mirror/flink:2.1\n", "targetPort: inbound", "targetPort: http"}},
		{"port-clash", "agent", []string{"- --hooks=app,proxy,agent", "- --hooks=app,proxy,agent\n        - --listen=:9919", "containerPort: 8080}", "containerPort: 8080}\n        - {name: metrics, containerPort: 9909}"}},
		{"node-port-clash", "agent", []string{"", onTheHost("first", 9909) + onTheHost("second", 9910)}},
		{"long-streams", "agent", []string{"targetPort: inbound", "targetPort: inbound, appProtocol: kubernetes.io/ws", "- --hooks=app,proxy,agent", "- --hooks=app,proxy,agent\n        - --app-drain-url=http://127.0.0.1:8090/drain"}},
		{"long-streams", "agent", []string{"targetPort: inbound", "targetPort: inbound, appProtocol: grpc"}}, // most of gRPC is short
		{"proxy-drain-short", "agent", []string{"envoy:v1.40.0\n", "envoy:v1.40.0\n        args: [--drain-time-s=60]\n"}},
		{"proxy-drain-short", "istio", []string{"      annotations:\n", "      annotations:\n        proxy.istio.io/config: '{\"terminationDrainDuration\": \"5s\"}'\n"}}, // of pilot-agent, which the agent tells
		{"agent-annotation", "agent", []string{"        team: shop\n", "        drain-agent.io/grace-period: 60s\n        drain-agent.io/roles: web=serving\n        drain-agent.example/x: y\n"}},
		{"no-prestop", "plain", []string{hook, "", web1, "        image: registry.example/external-dns:0.19\n", "targetPort: inbound", "targetPort: http"}},
		{"no-readiness-probe", "plain", []string{ready, "", "kind: Deployment", "kind: DaemonSet", "    spec:\n", "    spec:\n      hostNetwork: true\n", "  selector: {app: web}\n  ports", "  selector: {app: other}\n  ports"}},
		{"no-prestop", "plain", []string{hook, "", "containerPort: 8080", "containerPort: 5432", "targetPort: inbound", "targetPort: http"}},
		{"no-prestop", "plain", []string{hook, "", "{name: http, containerPort: 8080}", "{name: metrics, containerPort: 8080}", "targetPort: inbound", "targetPort: metrics"}},
		{"no-prestop", "plain", []string{hook, "", web1, web1 + "        command: [sleep, infinity]\n", "targetPort: inbound", "targetPort: http"}},
		{"no-prestop", "plain", []string{hook, "", "  replicas: 3\n", "  replicas: 1\n  strategy: {type: Recreate}\n"}},
		{"no-prestop", "plain", []string{hook, "", "  selector: {app: web}\n  ports", "  clusterIP: None\n  selector: {app: web}\n  ports"}},
		{"hook-missing", "agent", []string{"            httpGet: {path: /prestop/app, port: 9909}", "            exec: {command: [/run/drain-agent/drain-agent, hook, app]}"}},
		{"hook-to-admin", "plain", []string{"sleep: {seconds: 15}", "httpGet: {path: /drain, port: 15020}"}},
		{"hook-port-name", "plain", []string{"sleep: {seconds: 15}", "httpGet: {path: /stop, port: http}"}},
		{"hook-host", "plain", []string{"sleep: {seconds: 15}", "httpGet: {path: /stop, port: 9909, host: 10.0.0.1}"}},
		{"hook-host", "plain", []string{"    spec:\n", "    spec:\n      hostNetwork: true\n", "sleep: {seconds: 15}", "httpGet: {path: /stop, port: 9909, host: 127.0.0.1}"}},
		{"host-network", "plain", []string{"    spec:\n", "    spec:\n      hostNetwork: true\n"}},
		{"port-clash", "plain", []string{"containerPort: 8080}", "containerPort: 8080}\n        - {name: metrics, containerPort: 9909}"}},
		{"no-startup-probe", "plain", []string{"        startupProbe:\n          httpGet: {path: /readyz, port: http}\n", "", live, live + "          initialDelaySeconds: 60\n"}},
		{"no-startup-probe", "plain", []string{"        startupProbe:\n          httpGet: {path: /readyz, port: http}\n", "", live, live + "          failureThreshold: 12\n"}},
		{"liveness-before-start", "plain", []string{"        startupProbe:\n          httpGet: {path: /readyz, port: http}\n", "", live, live + "          periodSeconds: 2\n          initialDelaySeconds: 30\n"}},
		{"liveness-before-start", "plain", []string{live, live + "          periodSeconds: 1\n"}}, // a startup probe stands before it
		{"no-readiness-probe", "plain", []string{ready, "", "containerPort: 8080", "containerPort: 8080, protocol: TCP", "  selector: {app: web}\n  ports", "  clusterIP: None\n  selector: {app: web}\n  ports"}},
		{"no-readiness-probe", "plain", []string{ready, "", web1, web1 + "        command: [tail, -f, /dev/null]\n", "targetPort: inbound", "targetPort: http"}},
		{"liveness-is-readiness", "plain", []string{live, live + "          failureThreshold: 10\n", "path: /livez", "path: /healthz", ready, strings.ReplaceAll(ready, "/readyz", "/healthz")}},
		{"liveness-is-readiness", "plain", []string{live, "        livenessProbe:\n          exec: {command: [pgrep, server]}\n", ready, "        readinessProbe:\n          exec: {command: [pgrep, server]}\n"}},
		{"liveness-fails-in-shutdown", "plain", []string{live, `        livenessProbe:
          exec: {command: [/bin/sh, -c, exec pg_isready -U web -h 127.0.0.1]}
`}},
		{"liveness-fails-in-shutdown", "plain", []string{"path: /livez", "path: /already/there"}},
		{"liveness-fails-in-shutdown", "plain", []string{live, `        livenessProbe:
          exec: {command: [/scripts/readiness-and-liveness.sh, --live]}
`}},
		{"probe-through-proxy", "plain", []string{"path: /readyz, port: http}\n        livenessProbe", "path: /readyz, port: 8000}\n        livenessProbe"}},
		{"istio-annotation", "istio", []string{"      annotations:\n", "      annotations:\n        sidecar.istio.io/userVolumeMount: '[]'\n        istio.example.com/own: x\n"}},
		{"istio-field", "plain", []string{"", rule}},
		{"istio-field", "plain", []string{"", strings.NewReplacer("networking.istio.io/v1", "example.com/v1", "outlierDetection", "circuitBreaker").Replace(rule)}},
		{"hold-lost", "istio", []string{
			"      annotations:\n", "      annotations:\n        proxy.istio.io/config: '{\"holdApplicationUntilProxyStarts\": true}'\n",
			"      containers:\n", "      containers:\n" + beside + "        lifecycle:\n          preStop:\n            exec: {command: [pilot-agent, request, POST, drain]}\n",
		}},
		{"hold-lost", "istio", []string{
			"      annotations:\n", "      annotations:\n        proxy.istio.io/config: '{\"holdApplicationUntilProxyStarts\": true}'\n",
			"      containers:\n", "      containers:\n" + beside + "        lifecycle:\n          postStart:\n            exec: {command: [sh, -c, pilot-agent wait && touch /tmp/up]}\n",
		}},
		{"exit-on-zero", "istio", []string{"      annotations:\n", "      annotations:\n        proxy.istio.io/config: |\n          proxyMetadata:\n            EXIT_ON_ZERO_ACTIVE_CONNECTIONS: \"false\"\n"}},
		{"drain-over-grace", "istio", []string{"      annotations:\n", "      annotations:\n        proxy.istio.io/config: '{\"terminationDrainDuration\": \"30s\"}'\n"}},
		{"strict-mtls-hook", "istio", []string{"        traffic.sidecar.istio.io/excludeInboundPorts: \"9909\"\n", "", "", "---\n" + mesh}}, // rewritten
		{"strict-mtls-hook", "plain", []string{"        team: shop\n", "        sidecar.istio.io/rewriteAppHTTPProbers: \"false\"\n", "", "---\n" + mesh}},
		{"strict-mtls-hook", "istio", []string{"sidecar.istio.io/inject: \"true\"", "sidecar.istio.io/inject: \"false\"", "      annotations:\n", "      annotations:\n        sidecar.istio.io/rewriteAppHTTPProbers: \"false\"\n", "", "---\n" + mesh}},
		{"uid-1337", "plain", []string{web1, web1 + "        securityContext: {runAsUser: 1337}\n"}},
		{"no-resources", "istio", []string{"      containers:\n", "      containers:\n" + beside}},
		{"single-replica", "plain", []string{"replicas: 3", "replicas: 1", "", hpa(3)}},
		{"single-replica", "plain", []string{"replicas: 3", "replicas: 1", web1, web1 + "        command: [sleep, infinity]\n", "targetPort: inbound", "targetPort: http"}},
		{"no-spread", "plain", []string{"replicas: 3", "replicas: 1", "      topologySpreadConstraints:\n      - maxSkew: 1\n        topologyKey: kubernetes.io/hostname\n        whenUnsatisfiable: ScheduleAnyway\n        labelSelector:\n          matchLabels: {app: web}\n", ""}},
		{"no-disruption-budget", "plain", []string{"maxUnavailable: 1\n  selector:\n    matchLabels: {app: web}", "maxUnavailable: 1\n  selector: {matchExpressions: [{key: app, operator: Exists}]}"}},
		{"blocking-disruption-budget", "plain", []string{"maxUnavailable: 1", "minAvailable: 2", "replicas: 3", "replicas: 1", "", hpa(3)}},
		{"blocking-disruption-budget", "plain", []string{"maxUnavailable: 1", "minAvailable: 50%"}},
		{"blocking-disruption-budget", "plain", []string{"maxUnavailable: 1", "minAvailable: 1", "kind: Deployment", "kind: DaemonSet", "  replicas: 3\n", ""}},
		{"silence", "plain", []string{"        team: shop\n", "        lint.drain-agent.io/no-spread: one node is all there is\n"}},
	}
}

func TestWhatLooksLikeABreachIsNotTold(t *testing.T) {
	covered := map[string]bool{"stop-over-grace": true} // no manifest alone: TestRecordedStopsOutlastTheGracePeriod has both
	for _, n := range negatives() {
		covered[n.rule] = true
		if got := ids(t, apply(t, load(t, n.base), n.edits)); slices.Contains(got, n.rule) {
			t.Errorf("%s %q: found %v", n.rule, n.edits, got)
		}
	}
	for _, rule := range lint.Rules() {
		if !covered[rule.ID] {
			t.Errorf("rule %s has no manifest that only looks like a breach", rule.ID)
		}
	}
}
