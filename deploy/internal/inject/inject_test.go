package inject_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	node "go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	apimachinery "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/lint"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

// options are what a user would say; without a token the run makes one.
func options(name string) inject.Options {
	o := inject.Options{Image: "ghcr.io/drain-agent/drain-agent:v0.1.0-dev", Shape: "auto", Proxy: "auto"}
	switch {
	case strings.HasPrefix(name, "09-"), strings.HasPrefix(name, "10-"): // hooks of the companions that drain-agent replaces
		o.ReplaceHooks = []string{"envoy", "shutdown-manager"}
	case strings.HasPrefix(name, "30-"):
		o.Preset = "nlb"
	case strings.HasPrefix(name, "21-"):
		o.Roles = map[string]roles.Role{"worker": roles.Worker}
	case strings.HasPrefix(name, "23-"):
		o.Roles = map[string]roles.Role{"flow": roles.Serving, "helper": roles.Dependency}
	}
	return o
}

func shapes(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/shapes/*.yaml")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d shapes, %v", len(files), err)
	}
	texts := map[string][]byte{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[strings.TrimSuffix(filepath.Base(file), ".yaml")] = text
	}
	return texts
}

// refusedClassic are the shapes where a classic agent could not see when work is done.
func refusedClassic(name string) bool {
	return name == "13-cronjob" || name == "59-ends-by-itself" || name == "71-no-proxy-worker"
}

func TestShapes(t *testing.T) {
	for name, text := range shapes(t) {
		for _, shape := range []string{"auto", "classic"} {
			if refusedClassic(name) && shape == "classic" {
				continue // TestWhatCannotBeEditedIsExplained
			}
			t.Run(name+"/"+shape, func(t *testing.T) {
				o := options(name)
				o.Shape = shape
				once, reports, err := inject.File(name, text, o)
				if err != nil {
					t.Fatal(err)
				}
				twice, _, err := inject.File(name, once, o)
				if err != nil || !bytes.Equal(once, twice) {
					t.Errorf("the second run changes something: %v", err)
				}
				back, found, err := manifest.Restore(once)
				planned := planned(reports)
				if err != nil || found != (len(planned) > 0) || !bytes.Equal(back, text) {
					t.Errorf("uninject does not return the original (%v)", err)
				}
				before, after := pods(t, name, text), pods(t, name, once)
				if len(reports) == 0 || len(before) != len(after) {
					t.Fatalf("%d workloads became %d, %d reported", len(before), len(after), len(reports))
				}
				for i := range after {
					if planned[after[i].Name] {
						judge(t, before[i], after[i], shape)
					}
				}
				for _, w := range after { // as --validate=strict reads it
					var as any = &corev1.PodTemplateSpec{}
					if w.Kind == "Pod" {
						as = &corev1.Pod{}
					}
					text, err := yaml.Marshal(value(t, w.Template))
					if err == nil {
						err = yaml.UnmarshalStrict(text, as)
					}
					if err != nil {
						t.Errorf("not a pod: %v", err)
					}
				}
				agrees(t, name, once, planned)
				if bytes.HasPrefix(once, []byte("{")) { // kubectl before 1.30 would insist on JSON, which has no comments
					t.Error("reads like JSON")
				}
				if err := apimachinery.NewYAMLOrJSONDecoder(bytes.NewReader(once), 4096).Decode(&map[string]any{}); err != nil {
					t.Errorf("kubectl cannot read it: %v", err)
				}
			})
		}
	}
}

// planned are the names of the workloads that got an agent.
func planned(reports []inject.Report) map[string]bool {
	out := map[string]bool{}
	for _, r := range reports {
		if r.Plan != nil {
			out[r.Object.Name] = true
		}
	}
	return out
}

func value(t *testing.T, n *node.Node) any {
	t.Helper()
	var v any
	if err := n.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func pods(t *testing.T, name string, text []byte) []*manifest.Workload {
	t.Helper()
	docs, err := manifest.Parse(name, text)
	if err != nil {
		t.Fatal(err)
	}
	var out []*manifest.Workload
	for _, d := range docs {
		for _, o := range d.Objects {
			if o.Workload != nil {
				out = append(out, o.Workload)
			}
		}
	}
	return out
}

func names(list []corev1.Container) []string {
	var out []string
	for i := range list {
		out = append(out, list[i].Name)
	}
	return out
}

// judge checks an injected pod against the one that it was.
func judge(t *testing.T, before, after *manifest.Workload, shape string) {
	t.Helper()
	ours := func(name string) bool {
		return strings.HasPrefix(name, "drain-agent") || name == "istio-proxy" && before.Named(name) == nil // which Istio fills
	}
	was, is := before.Pod.Spec, after.Pod.Spec
	for list, pair := range map[string][2][]corev1.Container{"containers": {was.Containers, is.Containers}, "initContainers": {was.InitContainers, is.InitContainers}} {
		if left := slices.DeleteFunc(names(pair[1]), ours); !slices.Equal(left, names(pair[0])) {
			t.Errorf("%s: %v became %v", list, names(pair[0]), left)
		}
	}
	agents := slices.DeleteFunc(slices.Concat(is.InitContainers, is.Containers), func(c corev1.Container) bool { return c.Name != "drain-agent" })
	if len(agents) != 1 {
		t.Fatalf("%d agents", len(agents))
	}
	agent := agents[0]
	if is := agent.RestartPolicy != nil; is != (shape == "auto" && after.Pod.Annotations[native] != "false") {
		t.Errorf("native: %v", is)
	}
	if grace, _ := budget.Flag(agent.Args, "grace-period"); is.TerminationGracePeriodSeconds == nil || grace != fmt.Sprintf("%ds", *is.TerminationGracePeriodSeconds) {
		t.Errorf("--grace-period=%s, the pod has %v", grace, is.TerminationGracePeriodSeconds)
	}
	if is.Volumes[0].Name != "drain-agent" || len(is.Volumes) != len(was.Volumes)+2 {
		t.Errorf("volumes %v", is.Volumes)
	}
	token := after.Pod.Annotations[inject.TokenAnnotation]
	if shown := agent.Lifecycle.PreStop.HTTPGet.HTTPHeaders[0].Value; token == "" || shown != token {
		t.Errorf("token %q, the hook shows %q", token, shown)
	}
	for key, value := range before.Pod.Annotations {
		if key == rewrite {
			continue // TestClassicIstioIsHeld
		}
		if got := after.Pod.Annotations[key]; got != value && !strings.HasPrefix(got, value+",") {
			t.Errorf("annotation %s: %q became %q", key, value, got)
		}
	}
}

// agrees lints what came out: nothing that inject answers for may be wrong with it.
func agrees(t *testing.T, name string, text []byte, planned map[string]bool) {
	t.Helper()
	docs, err := manifest.Parse(name, text)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range lint.Run(docs) {
		number, _, _ := strings.Cut(name, "-")
		switch _, object, _ := strings.Cut(f.Object, " "); {
		case !planned[object]:
		case f.Rule == "hook-missing" && slices.Contains([]string{"58", "59", "61"}, number): // lint does not know helpers, nor pods that end
		case f.Severity == lint.Error && f.Rule != "uid-1337" && f.Rule != "liveness-fails-in-shutdown" || f.Rule == "probe-through-proxy" || f.Rule == "grace-default":
			t.Errorf("lint: %s: %s", f.Rule, f.Message)
		}
	}
}

func TestGolden(t *testing.T) {
	all := shapes(t)
	for _, name := range []string{"01-istio-label", "66-istio-classic", "67-istio-stub", "69-istio-classic-probes", "11-helm-web", "12-statefulset-volumes", "14-job-regular-proxy", "15-daemonset-host", "22-uds-admin", "23-flow-lists", "24-comments", "34-json", "35-flow"} {
		o := options(name)
		o.Token = "TOKEN"
		got, reports, err := inject.File(name, all[name], o)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range reports {
			for _, note := range r.Plan.Notes {
				got = append(got, "# note: "+note+"\n"...)
			}
		}
		golden := filepath.Join("testdata/golden", name+".yaml")
		if *update {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(golden); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what comes out (%v):\n%s", golden, err, got)
		}
	}
}

func TestHooksAreChainedNeverDropped(t *testing.T) {
	for hook, want := range map[string]string{
		`exec: {command: [sh, -c, "curl -X POST localhost/leave"]}`: "hook app -- sh -c curl -X POST localhost/leave",
		`exec: {command: [/leave, now]}`:                            "hook app -- /leave now",
		`exec: {command: [/bin/sh, -c, "nginx -s quit"]}`:           "hook --after app -- /bin/sh -c nginx -s quit",
		`exec: {command: [sh, -c, "echo it's; sleep 5; true"]}`:     "hook app -- sh -c echo it's; sleep 5; true",
		"httpGet: {path: /leave, port: web}":                        "hook app -- /run/drain-agent/drain-agent probe --timeout=1h http://127.0.0.1:8080/leave",
		"httpGet: {path: \"leave?a=b\", port: 81, host: 10.0.0.7}":  "hook app -- /run/drain-agent/drain-agent probe --timeout=1h http://10.0.0.7:81/leave?a=b",
	} {
		out, _, err := inject.File("x", []byte(withHook(hook)), options("x"))
		if err != nil {
			t.Fatal(err)
		}
		w := pods(t, "x", out)[0]
		app := w.Pod.Spec.Containers[0]
		if got := strings.Join(app.Lifecycle.PreStop.Exec.Command, " "); got != "/run/drain-agent/drain-agent "+want {
			t.Errorf("%s became %q", hook, got)
		}
		if len(app.VolumeMounts) != 1 || w.Pod.Spec.InitContainers[0].Name != "drain-agent-install" {
			t.Errorf("%s: the binary is not there: %v", hook, app.VolumeMounts)
		}
		slept := "--stop=app=5s" // of the app itself
		if strings.Contains(hook, "sleep 5") {
			slept = "--stop=app=10s"
		}
		if args := w.Pod.Spec.InitContainers[1].Args; !slices.Contains(args, slept) {
			t.Errorf("%s: %v, want %s", hook, args, slept)
		}
	}
	for hook, want := range map[string]string{
		"sleep: {seconds: 15}":                                  "15s",
		`exec: {command: [sleep, "7"]}`:                         "7s",
		`exec: {command: ["/bin/sh", "-c", "sleep 1m"]}`:        "1m0s",
		`exec: {command: ["bash", "-c", " /bin/sleep 2.5s ;"]}`: "2.5s",
	} {
		out, _, err := inject.File("x", []byte(withHook(hook)), options("x"))
		if err != nil {
			t.Fatal(err)
		}
		args := pods(t, "x", out)[0].Pod.Spec.InitContainers[0].Args
		if got, _ := budget.Flag(args, "propagation"); got != want {
			t.Errorf("%s: --propagation=%s, want %s", hook, got, want)
		}
	}
	for _, hook := range []string{"httpGet: {path: /leave, port: 8080, scheme: HTTPS}", "httpGet: {path: /leave, port: 8080, httpHeaders: [{name: a, value: b}]}", "httpGet: {path: /leave, port: nobody}"} {
		_, _, err := inject.File("x", []byte(withHook(hook)), options("x"))
		if err == nil || !strings.Contains(err.Error(), "--replace-hook=app") {
			t.Errorf("%s: %v", hook, err)
		}
	}
}

func withHook(hook string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  terminationGracePeriodSeconds: 30\n  containers:\n  - name: app\n    image: a\n    ports: [{name: web, containerPort: 8080}]\n    lifecycle:\n      preStop:\n        " +
		hook + "\n  - name: envoy\n    image: envoyproxy/envoy:v1\n"
}

// The port that a person names is watched alone: a second one would contradict it.
func TestOwnWatchTakesThePlaceOfTheFirstPort(t *testing.T) {
	const name = "14-job-regular-proxy"
	o := options(name)
	o.AgentArgs = []string{"--watch=app=port:8090"}
	text, _, err := inject.File(name, shapes(t)[name], o)
	if err != nil || bytes.Count(text, []byte("--watch=")) != 1 || !bytes.Contains(text, []byte("--watch=app=port:8090\n")) {
		t.Errorf("%v\n%s", err, text)
	}
}

// The container of Istio's gateway chart is known by its name. Its probes must not be rewritten: they would ask a port of
// istio-proxy, which starts only after the agent's startup probe, and nothing would ever start.
func TestIstioGatewayAsksTheAgentItself(t *testing.T) {
	const name = "28-istio-gateway"
	text := bytes.ReplaceAll(shapes(t)[name], []byte("        ports:\n        - containerPort: 15090\n          name: http-envoy-prom\n"), nil)
	out, reports, err := inject.File(name, text, options(name))
	if err != nil {
		t.Fatal(err)
	}
	if mesh := reports[0].Plan.Proxy.Mesh; mesh != "istio" {
		t.Errorf("the proxy belongs to %q, want istio", mesh)
	}
	if got := pods(t, name, out)[0].Pod.Annotations["sidecar.istio.io/rewriteAppHTTPProbers"]; got != "false" {
		t.Errorf("rewriteAppHTTPProbers is %q", got)
	}
}

func TestWhatCannotBeEditedIsExplained(t *testing.T) {
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n"
	for text, want := range map[string]string{
		pod + "  containers: [&c {name: app, image: a}, {name: envoy, image: envoy}]\nx: *c\n":                                                        "anchor",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: {{ .Values.name }}}\n":                                                                           "render it first",
		"kind: Job\nspec:\n  template:\n    spec:\n      containers:\n      - name: a\n        image: a\n      - name: envoy\n        image: envoy\n": "cannot see when the work is done",
		"a: 1\n---\na: b: c\n": "f:3: document 2",
		pod + "  containers:\n  - name: app\n    image: a\n    image: b\n":                    "already defined",
		pod + "  containers:\n  - name: a\n    image: envoy\n  - name: b\n    image: envoy\n": "two containers look like Envoy",
		pod + "  containers:\n  - &e\n    name: envoy\n    image: envoy\nx: *e\n":             "anchor",
		pod + "  containers: 7\n": "f:5: document 1: Pod x: spec.containers is a number, should be a list",
		"x: &a [1]\nkind: Pod\nspec:\n  containers:\n  - name: envoy\n    image: envoy\n    ports: [*b]\n": "unknown anchor",
	} {
		o := options("x")
		if strings.Contains(text, "kind: Job") {
			o.Shape = "classic"
		}
		out, _, err := inject.File("f", []byte(text), o)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "f:") {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
		if out != nil {
			t.Errorf("%q: text in spite of the error", text)
		}
	}
}

// One operation injects 1,000 manifests.
func BenchmarkThousand(b *testing.B) {
	all := shapes(b)
	list := slices.Sorted(func(yield func(string) bool) {
		for name := range all {
			if !yield(name) {
				return
			}
		}
	})
	for b.Loop() {
		for i := range 1000 {
			name := list[i%len(list)]
			if _, _, err := inject.File(name, all[name], options(name)); err != nil {
				b.Fatal(err)
			}
		}
	}
}
