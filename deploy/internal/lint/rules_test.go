package lint_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/deploy/internal/lint"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// breach turns a good manifest of testdata into one that breaks exactly one rule.
type breach struct {
	rule, base string
	edits      []string // old, new, old, new, …; an empty old appends
}

const mesh = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: shop}\nspec:\n  mtls: {mode: STRICT}\n"

func hpa(least int) string {
	return fmt.Sprintf("---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: web, namespace: shop}\nspec:\n  minReplicas: %d\n  maxReplicas: 9\n  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}\n", least)
}

// inConsul is a Job to which Consul adds a proxy.
func inConsul(script string) string {
	return fmt.Sprintf(`---
apiVersion: batch/v1
kind: Job
metadata: {name: migrate, namespace: shop}
spec:
  template:
    metadata: {annotations: {consul.hashicorp.com/connect-inject: "true"}}
    spec:
      restartPolicy: Never
      containers:
      - name: migrate
        image: registry.example/migrate:1
        command: [sh, -c, %q]
        resources: {requests: {cpu: 1m, memory: 1Mi}, limits: {memory: 1Mi}}
`, script)
}

// onTheHost is a DaemonSet in the host's network with an agent.
func onTheHost(name string, port int) string {
	return fmt.Sprintf(`---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: %[1]s, namespace: shop}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      hostNetwork: true
      terminationGracePeriodSeconds: 60
      containers:
      - name: drain-agent
        image: ghcr.io/drain-agent/drain-agent:v0.1.0-dev
        args: [run, --grace-period=60s, --hooks=agent, "--listen=:%[2]d"]
        lifecycle: {preStop: {httpGet: {path: /prestop/agent, port: %[2]d, host: 127.0.0.1}}}
        resources: {requests: {cpu: 1m, memory: 1Mi}, limits: {memory: 1Mi}}
`, name, port)
}

func breaches() []breach {
	web1 := "        image: registry.example/web:1\n"
	webHook := "            httpGet: {path: /prestop/app, port: 9909}"
	return []breach{
		{"agent-arguments", "agent", []string{"--grace-period=60s", "--grace-period=60"}},
		{"agent-arguments", "agent", []string{"- --hooks=app,proxy,agent", "- --hooks=app,proxy,agent\n        - --no-such-flag"}},
		{"agent-arguments", "agent", []string{"- --hooks=app,proxy,agent", "- --hooks=app,proxy,agent\n        - --mode=dry"}},
		{"agent-arguments", "agent", []string{"        args:\n        - run", "        command: [/drain-agent, run, --poll=x]\n        args:"}},
		{"agent-arguments", "agent", []string{"        args:\n        - run\n", "        env:\n        - {name: DRAIN_AGENT_RESTART_MAX, value: x}\n        args:\n"}},
		{"agent-image", "agent", []string{"ghcr.io/drain-agent/drain-agent:v0.1.0-dev", "registry.example:5000/drain-agent"}},
		{"agent-image", "agent", []string{"ghcr.io/drain-agent/drain-agent:v0.1.0-dev", "drain-agent:latest"}},
		{"request-over-grace", "agent", []string{"        team: shop\n", "        drain-agent.io/longest-request: 50s\n"}},
		{"request-over-grace", "plain", []string{"        team: shop\n", "        drain-agent.io/longest-request: 46s\n"}},
		{"waits-for-later", "agent", []string{"path: /startupz,", "path: /startupz/proxy,"}},
		{"waits-for-later", "agent", []string{"httpGet: {path: /startupz, port: 9909}", "exec: {command: [/drain-agent, wait]}"}},
		{"strategy-takes-all", "agent", []string{"  replicas: 3\n", "  replicas: 3\n  strategy: {type: Recreate}\n"}},
		{"strategy-takes-all", "agent", []string{"  replicas: 3\n", "  replicas: 3\n  strategy: {rollingUpdate: {maxUnavailable: 100%}}\n"}},
		{"strategy-takes-all", "plain", []string{"  replicas: 3\n", "  replicas: 3\n  strategy: {rollingUpdate: {maxUnavailable: 3}}\n"}},
		{"strategy-takes-all", "plain", []string{"apps/v1\nkind: Deployment", "argoproj.io/v1alpha1\nkind: Rollout", "  replicas: 3\n", "  replicas: 3\n  strategy: {canary: {maxUnavailable: 100%}}\n"}},
		{"strategy-takes-all", "plain", []string{"kind: Deployment", "kind: DaemonSet", "  replicas: 3\n", "  updateStrategy: {rollingUpdate: {maxUnavailable: 100%}}\n"}},
		{"budget-over-grace", "agent", []string{"GracePeriodSeconds: 60", "GracePeriodSeconds: 10", "--grace-period=60s", "--grace-period=10s"}},
		{"budget-over-grace", "agent", []string{"--envoy-admin", "--stop=app=55s\n        - --envoy-admin"}},
		{"grace-mismatch", "agent", []string{"--grace-period=60s", "--grace-period=30s"}},
		{"grace-default", "plain", []string{"      terminationGracePeriodSeconds: 60\n", ""}},
		{"sleep-over-grace", "plain", []string{"seconds: 15", "seconds: 60"}},
		{"sleep-over-grace", "plain", []string{"sleep: {seconds: 15}", `exec: {command: [/bin/sh, -c, "sleep 2m"]}`}},
		{"sleep-over-grace", "plain", []string{"sleep: {seconds: 15}", `exec: {command: [/bin/sh, -c, "sleep 75 && nginx -s quit"]}`}},
		{"sleep-over-grace", "plain", []string{"sleep: {seconds: 15}", `exec: {command: [/bin/sh, -c, "touch /tmp/stopping; { sleep 40; sleep 40; }"]}`}},
		{"sleep-over-grace", "plain", []string{"sleep: {seconds: 15}", `exec: {command: [sleep, "61"]}`}},
		{"sleep-leaves-little", "plain", []string{"seconds: 15", "seconds: 59"}},
		{"sleep-leaves-little", "plain", []string{"sleep: {seconds: 15}", `exec: {command: [bash, -ec, "sleep 0.95m\nnginx -s quit"]}`}},
		{"grace-zero", "plain", []string{"GracePeriodSeconds: 60", "GracePeriodSeconds: 0"}},
		{"shell-is-process-one", "plain", []string{web1, web1 + "        command: [/bin/sh, -c, ./server --port=8080]\n"}},
		{"shell-is-process-one", "plain", []string{web1, web1 + "        command: [sh, -c]\n        args: [\"./migrate && ./server\"]\n"}},
		{"shell-is-process-one", "plain", []string{web1, web1 + "        command: [bash, -c, \"./server | tee /log\"]\n"}},
		{"shell-is-process-one", "plain", []string{web1, web1 + "        command: [bash, -c, \"./server & wait\"]\n"}},
		{"shell-is-process-one", "plain", []string{web1, web1 + "        command: [bash, -c, \"while true; do ./server; done\"]\n"}},
		{"deregistration-over-grace", "agent", []string{"  name: web\n  namespace: shop\nspec:\n  selector: {app: web}", "  name: web\n  namespace: shop\n  annotations: {service.beta.kubernetes.io/aws-load-balancer-type: external}\nspec:\n  selector: {app: web}"}},
		{"deregistration-over-grace", "agent", []string{"", "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web, namespace: shop}\nspec:\n  ingressClassName: alb\n  defaultBackend: {service: {name: web, port: {number: 80}}}\n"}},
		{"long-stop", "agent", []string{"GracePeriodSeconds: 60", "GracePeriodSeconds: 600", "--grace-period=60s", "--grace-period=600s"}},
		{"proxy-races-app", "plain", []string{
			"      initContainers:\n", "      containers:\n", "        restartPolicy: Always\n", "", "      containers:\n      - name: web", "      - name: web",
			"        startupProbe:\n          tcpSocket: {port: inbound}\n", "        lifecycle:\n          preStop:\n            sleep: {seconds: 15}\n",
		}},
		{"sidecar-order", "agent", []string{"@swap", ""}},
		{"stop-order", "agent", []string{"--stop-order=app,proxy", "--stop-order=proxy,app"}},
		{"job-never-ends", "job", []string{"      initContainers:\n", "      containers:\n", "        restartPolicy: Always\n", "", "      containers:\n      - name: settle", "      - name: settle"}},
		{"job-never-ends", "job", []string{"", inConsul("./migrate")}},
		{"publish-not-ready", "agent", []string{"  selector: {app: web}\n  ports", "  publishNotReadyAddresses: true\n  selector: {app: web}\n  ports"}},
		{"no-prestop", "plain", []string{"        lifecycle:\n          preStop:\n            sleep: {seconds: 15}\n", ""}},
		{"hook-missing", "agent", []string{"        lifecycle:\n          preStop:\n" + webHook + "\n", ""}},
		{"hook-missing", "agent", []string{"--hooks=app,proxy,agent", "--hooks=app,proxy,otel,agent"}},
		{"hook-to-admin", "plain", []string{"sleep: {seconds: 15}", "httpGet: {path: /healthcheck/fail, port: 15000}"}},
		{"hook-port-name", "agent", []string{webHook, "            httpGet: {path: /prestop/app, port: drain-agent}"}},
		{"hook-host", "agent", []string{webHook, "            httpGet: {path: /prestop/app, port: 9909, host: 127.0.0.1}"}},
		{"host-network", "agent", []string{"    spec:\n", "    spec:\n      hostNetwork: true\n"}},
		{"port-clash", "agent", []string{"containerPort: 8080}", "containerPort: 8080}\n        - {name: metrics, containerPort: 9909}"}},
		{"port-clash", "agent", []string{"        - --envoy-admin=http://127.0.0.1:15000\n", "        - --envoy-admin=http://127.0.0.1:15000\n        ports:\n        - {containerPort: 9909, hostPort: 9909}\n"}},
		{"port-clash", "agent", []string{"- --hooks=app,proxy,agent", "- --hooks=app,proxy,agent\n        - --listen=[::]:9919", "containerPort: 8080}", "containerPort: 8080}\n        - {name: metrics, containerPort: 9919}"}},
		{"node-port-clash", "agent", []string{"", onTheHost("first", 9909) + onTheHost("second", 9909)}},
		{"long-streams", "agent", []string{"targetPort: inbound", "targetPort: inbound, appProtocol: kubernetes.io/ws"}},
		{"proxy-drain-short", "agent", []string{"envoy:v1.40.0\n", "envoy:v1.40.0\n        args: [--drain-time-s, \"5\"]\n"}},
		{"proxy-drain-short", "agent", []string{"envoy:v1.40.0\n", "envoy:distroless-v1.41.2\n        command: [sh, -c, exec envoy --drain-time-s 60]\n"}}, // two thirds of it
		{"agent-annotation", "agent", []string{"        team: shop\n", "        drain-agent.io/grace-period: \"60\"\n"}},
		{"agent-annotation", "agent", []string{"", "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: {drain-agent.io/quietmax: 5s}}\n"}},
		{"no-startup-probe", "agent", []string{"        startupProbe:\n          httpGet: {path: /readyz, port: http}\n", ""}},
		{"no-readiness-probe", "agent", []string{"        readinessProbe:\n          httpGet: {path: /readyz, port: http}\n", ""}},
		{"liveness-before-start", "plain", []string{"startupProbe:\n          httpGet: {path: /readyz, port: http}\n", "startupProbe:\n          periodSeconds: 3\n          httpGet: {path: /readyz, port: http}\n"}},
		{"liveness-is-readiness", "agent", []string{"path: /livez, port: http", "path: /readyz, port: http"}},
		{"liveness-fails-in-shutdown", "agent", []string{"path: /livez, port: http", "path: /health/ready, port: http"}},
		{"probe-through-proxy", "agent", []string{"path: /readyz, port: http}\n        livenessProbe", "path: /readyz, port: 8000}\n        livenessProbe"}},
		{"istio-annotation", "istio", []string{"      annotations:\n", "      annotations:\n        sidecar.istio.io/holdApplicationUntilProxyStarts: \"true\"\n"}},
		{"istio-field", "agent", []string{"", "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: shop}\nspec:\n  host: web\n  trafficPolicy:\n    circuitBreaker: {consecutiveErrors: 5}\n"}},
		{"istio-field", "agent", []string{"", "---\napiVersion: networking.istio.io/v1\nkind: EnvoyFilter\nmetadata: {name: web, namespace: shop}\nspec: {}\n"}},
		{"hold-lost", "istio", []string{
			"      annotations:\n", "      annotations:\n        proxy.istio.io/config: '{\"holdApplicationUntilProxyStarts\": true}'\n",
			"      containers:\n", "      containers:\n      - name: istio-proxy\n        image: auto\n        lifecycle:\n          postStart:\n            exec: {command: [touch, /tmp/started]}\n          preStop:\n            exec: {command: [pilot-agent, request, POST, drain]}\n        resources:\n          requests: {cpu: 50m, memory: 64Mi}\n          limits: {memory: 256Mi}\n",
		}},
		{"exit-on-zero", "istio", []string{"      containers:\n", "      containers:\n      - name: istio-proxy\n        image: istio/proxyv2:1.28\n        env:\n        - {name: EXIT_ON_ZERO_ACTIVE_CONNECTIONS, value: \"true\"}\n        lifecycle:\n          preStop:\n            exec: {command: [pilot-agent, request, POST, drain]}\n        resources:\n          requests: {cpu: 50m, memory: 64Mi}\n          limits: {memory: 256Mi}\n"}},
		{"drain-over-grace", "istio", []string{"      annotations:\n", "      annotations:\n        proxy.istio.io/config: '{\"terminationDrainDuration\": \"90s\"}'\n"}},
		{"drain-over-grace", "plain", []string{"        team: shop\n", "        kuma.io/sidecar-drain-time: 60s\n"}},
		{"strict-mtls-hook", "istio", []string{"        traffic.sidecar.istio.io/excludeInboundPorts: \"9909\"\n", "        sidecar.istio.io/rewriteAppHTTPProbers: \"false\"\n", "        sidecar.istio.io/inject: \"true\"\n", "", "", "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio-injection: enabled}}\n---\n" + mesh}},
		{"exit-on-zero", "istio", []string{"      annotations:\n", "      annotations:\n        proxy.istio.io/config: |\n          proxyMetadata:\n            EXIT_ON_ZERO_ACTIVE_CONNECTIONS: \"true\"\n"}},
		{"strict-mtls-hook", "istio", []string{"        traffic.sidecar.istio.io/excludeInboundPorts: \"9909\"\n", "        traffic.sidecar.istio.io/excludeInboundPorts: \"8080\"\n        sidecar.istio.io/rewriteAppHTTPProbers: \"false\"\n", "", "---\n" + mesh}},
		{"uid-1337", "istio", []string{"        image: registry.example/web:1\n", "        image: registry.example/web:1\n        securityContext: {runAsUser: 1337}\n"}},
		{"no-resources", "agent", []string{"        image: registry.example/web:1\n", "        image: registry.example/web:1\n        resources: {}\n", "@cut-resources", ""}},
		{"single-replica", "agent", []string{"replicas: 3", "replicas: 1"}},
		{"no-spread", "agent", []string{"      topologySpreadConstraints:\n      - maxSkew: 1\n        topologyKey: kubernetes.io/hostname\n        whenUnsatisfiable: ScheduleAnyway\n        labelSelector:\n          matchLabels: {app: web}\n", ""}},
		{"no-disruption-budget", "agent", []string{"maxUnavailable: 1\n  selector:\n    matchLabels: {app: web}", "maxUnavailable: 1\n  selector:\n    matchLabels: {app: other}"}},
		{"blocking-disruption-budget", "agent", []string{"maxUnavailable: 1", "maxUnavailable: 0"}},
		{"blocking-disruption-budget", "agent", []string{"maxUnavailable: 1", "minAvailable: 3"}},
		{"blocking-disruption-budget", "agent", []string{"maxUnavailable: 1", "minAvailable: 67%"}},
		{"blocking-disruption-budget", "agent", []string{"maxUnavailable: 1", "minAvailable: 2", "", hpa(2)}},
		{"job-never-ends", "job", []string{"      initContainers:\n", "      containers:\n", "        restartPolicy: Always\n", "", "      containers:\n      - name: settle", "      - name: settle", "apiVersion: batch/v1\nkind: Job", "apiVersion: v1\nkind: PodTemplate", "spec:\n  template:\n", "template:\n"}},
		{"silence", "plain", []string{"        team: shop\n", "        lint.drain-agent.io/no-spread: \"\"\n"}},
		{"silence", "plain", []string{"        team: shop\n", "        lint.drain-agent.io/no-such-rule: because\n"}},
	}
}

func TestEveryRuleHasAManifestThatBreaksItAlone(t *testing.T) {
	covered := map[string]bool{"stop-over-grace": true} // no manifest alone: TestRecordedStopsOutlastTheGracePeriod
	for _, b := range breaches() {
		text := apply(t, load(t, b.base), b.edits)
		covered[b.rule] = true
		if got := ids(t, text); !slices.Equal(got, []string{b.rule}) {
			t.Errorf("%s (%q): found %v", b.rule, b.edits, got)
		}
	}
	for _, rule := range lint.Rules() {
		if !covered[rule.ID] {
			t.Errorf("rule %s has no manifest that breaks it", rule.ID)
		}
	}
}

// A grace period is held against the longest stop that was recorded; one that was cut short needed more than it had.
func TestRecordedStopsOutlastTheGracePeriod(t *testing.T) {
	for _, row := range []struct {
		seen lint.Stops
		want string // of the finding; empty: none
	}{
		{lint.Stops{}, ""},
		{lint.Stops{N: 3, Longest: 60 * time.Second}, ""},
		{lint.Stops{N: 3, Longest: 61 * time.Second}, "the longest of 3 recorded stops needs 1m1s, the agent's stages and margin counted; the grace period is 1m0s"},
		{lint.Stops{N: 1, Longest: 60 * time.Second, CutShort: true}, "the longest of 1 recorded stops was cut short: it needs more than 1m0s, the agent's stages and margin counted; the grace period is 1m0s"},
		{lint.Stops{N: 1, Longest: 32 * time.Second, CutShort: true}, ""}, // raised since
	} {
		docs, err := manifest.Parse("test.yaml", []byte(load(t, "agent")))
		if err != nil {
			t.Fatal(err)
		}
		got := lint.JudgeBeside(docs, nil, func(o *manifest.Object) lint.Stops {
			if o.Kind != "Deployment" {
				return lint.Stops{}
			}
			return row.seen
		}).Findings
		if row.want == "" && len(got) > 0 || row.want != "" && (len(got) != 1 || got[0].Rule != "stop-over-grace" || got[0].Message != row.want || got[0].Severity != lint.Error) {
			t.Errorf("%+v: %+v", row.seen, got)
		}
	}
}

func TestGoodManifestsAreClean(t *testing.T) {
	for _, base := range []string{"agent", "plain", "istio", "job"} {
		if got := ids(t, load(t, base)); len(got) > 0 {
			t.Errorf("%s: %v", base, got)
		}
	}
	if got := ids(t, load(t, "istio")+"---\n"+mesh); len(got) > 0 {
		t.Errorf("STRICT with the port excluded: %v", got)
	}
}

// The controller's own rounding: maxUnavailable down, maxSurge up, one pod where both come to none.
func TestStrategiesAreRoundedAsTheControllerDoes(t *testing.T) {
	for strategy, all := range map[string][]int{ // the numbers of replicas, of 1 to 4, that lose every pod
		"{maxUnavailable: 1}":                 {1},
		"{maxUnavailable: 3}":                 {1, 2, 3},
		"{maxUnavailable: 50%}":               nil,
		"{maxUnavailable: 99%}":               nil,
		"{maxUnavailable: 0, maxSurge: 1}":    nil,
		"{maxUnavailable: 25%, maxSurge: 0}":  {1},
		"{maxUnavailable: 100%}":              {1, 2, 3, 4},
		"{maxSurge: 1}":                       nil,
		"{maxUnavailable: 25%, maxSurge: 1%}": nil,
		"{maxUnavailable: many}":              nil,
	} {
		var got []int
		for replicas := 1; replicas <= 4; replicas++ {
			text := apply(t, load(t, "agent"), []string{"  replicas: 3\n", fmt.Sprintf("  replicas: %d\n  strategy: {rollingUpdate: %s}\n", replicas, strategy)})
			if slices.Contains(ids(t, text), "strategy-takes-all") {
				got = append(got, replicas)
			}
		}
		if !slices.Equal(got, all) {
			t.Errorf("%s: every pod goes with %v replicas, want %v", strategy, got, all)
		}
	}
}

func TestWhatNewPodsGetPast(t *testing.T) {
	for _, edits := range [][]string{
		{"ghcr.io/drain-agent/drain-agent:v0.1.0-dev", "registry.example:5000/drain-agent@sha256:" + strings.Repeat("0", 64)},
		{"- --hooks=app,proxy,agent", "- --hooks=app,proxy,agent\n        - --poll=$(POLL)"},
		{"        args:\n        - run\n", "        env:\n        - {name: DRAIN_AGENT_POLL, valueFrom: {configMapKeyRef: {name: web, key: poll}}}\n        args:\n"},
		{"        args:\n        - run\n", "        command: [/bin/sh, -c, exec drain-agent run --no-such-flag]\n        args:\n"}, // a shell's, not to be judged
	} {
		if got := ids(t, apply(t, load(t, "agent"), edits)); len(got) > 0 {
			t.Errorf("%q: %v", edits, got)
		}
	}
}

func TestRulesSayWhatHappensAndWhatToDo(t *testing.T) {
	seen := map[string]bool{}
	for _, rule := range lint.Rules() {
		if seen[rule.ID] {
			t.Errorf("rule %s stands twice", rule.ID)
		}
		seen[rule.ID] = true
		for what, text := range map[string]string{"why": rule.Why, "fix": rule.Fix} {
			if !strings.HasSuffix(text, ".") || strings.ToUpper(text[:1]) != text[:1] {
				t.Errorf("rule %s: %s %q is no sentence", rule.ID, what, text)
			}
		}
	}
}

func load(t *testing.T, base string) string {
	t.Helper()
	return read(t, "testdata/"+base+".yaml")
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// apply edits a text; an edit that finds nothing to change is a mistake of the test.
func apply(t *testing.T, text string, edits []string) string {
	t.Helper()
	for i := 0; i < len(edits); i += 2 {
		old, replacement := edits[i], edits[i+1]
		switch old {
		case "":
			text += replacement
		case "@swap": // the proxy before the agent
			from, middle, to := strings.Index(text, "      - name: drain-agent"), strings.Index(text, "      - name: envoy"), strings.Index(text, "      containers:")
			text = text[:from] + text[middle:to] + text[from:middle] + text[to:]
		case "@cut-resources": // the last resources of the pod, which stand behind the ones just put in
			end := strings.Index(text, "---\n")
			from := strings.LastIndex(text[:end], "        resources:\n")
			text = text[:from] + text[end:]
		default:
			if !strings.Contains(text, old) {
				t.Fatalf("nothing to replace: %q", old)
			}
			text = strings.Replace(text, old, replacement, 1)
		}
	}
	return text
}

// ids returns the rules that a text breaks, each once.
func ids(t *testing.T, text string) []string {
	t.Helper()
	docs, err := manifest.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	var out []string
	for _, f := range lint.Run(docs) {
		if !slices.Contains(out, f.Rule) {
			out = append(out, f.Rule)
		}
		if f.Line < 1 || f.Line > bytes.Count([]byte(text), []byte("\n"))+1 {
			t.Errorf("%s: line %d", f.Rule, f.Line)
		}
	}
	slices.Sort(out)
	return out
}
