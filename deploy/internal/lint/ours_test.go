package lint_test

import (
	"cmp"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/deploy/internal/lint"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

const (
	deploy    = "../../"
	manifests = deploy + "manifests"
)

// Every manifest of ours, at every severity: what is in istio/ is judged together, elsewhere each file. Parts, which stand
// beside a kustomization.yaml, are judged where they are put together: in deploy/manifests, one file for each example.
func TestOurManifestsAreCleanButTheBadOne(t *testing.T) {
	judged := map[string]string{}
	err := filepath.WalkDir(deploy, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && slices.Contains([]string{"drainctl", "internal", "chart"}, entry.Name()) { // manifests of others, and templates
			return cmp.Or(err, fs.SkipDir)
		}
		if _, alone := os.Stat(filepath.Join(filepath.Dir(path), "kustomization.yaml")); filepath.Ext(path) == ".yaml" && alone != nil {
			judged[filepath.Base(path)] = read(t, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Glob(deploy + "examples/*/kustomization.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatalf("examples: %v, %v", examples, err)
	}
	for _, example := range examples {
		if name := filepath.Base(filepath.Dir(example)) + ".yaml"; judged[name] == "" {
			t.Errorf("%s: no deploy/manifests/%s", example, name)
		}
	}
	mesh, err := filepath.Glob(deploy + "../istio/*.yaml")
	if err != nil || len(mesh) < 8 {
		t.Fatalf("istio: %v, %v", mesh, err)
	}
	for _, path := range mesh {
		judged["istio"] += read(t, path) + "\n---\n"
	}
	for name, text := range judged {
		var want []string
		if name == "bad-service.yaml" {
			want = []string{
				"grace-default", "liveness-is-readiness", "no-disruption-budget", "no-prestop", "no-resources", "no-spread",
				"no-startup-probe", "proxy-races-app",
			}
		}
		if got := ids(t, text); !slices.Equal(got, want) {
			t.Errorf("%s: found %v, want %v", name, got, want)
		}
	}
}

// The two services of the article that this project began with, as it prints them.
func TestTheArticlesOwnServices(t *testing.T) {
	for name, want := range map[string][]string{
		"article-bad":  {"grace-default", "liveness-is-readiness", "no-disruption-budget", "no-prestop", "no-resources", "no-spread", "no-startup-probe"},
		"article-good": {"exit-on-zero", "istio-annotation", "no-disruption-budget", "no-spread"},
		"article-rule": {"istio-field"},
	} {
		if got := ids(t, load(t, name)); !slices.Equal(got, want) {
			t.Errorf("%s: found %v, want %v", name, got, want)
		}
	}
}

// mutations undo one practice in a pod; false where it is not followed there.
func mutations() map[string]func(w map[string]any, pod *corev1.PodSpec) bool {
	app := func(pod *corev1.PodSpec) *corev1.Container { return &pod.Containers[len(pod.Containers)-1] }
	agent := func(pod *corev1.PodSpec) *corev1.Container {
		for _, list := range [][]corev1.Container{pod.InitContainers, pod.Containers} {
			for i := range list {
				if list[i].Name == "drain-agent" {
					return &list[i]
				}
			}
		}
		return nil
	}
	arg := func(pod *corev1.PodSpec, flag, value string) bool {
		a := agent(pod)
		if a == nil {
			return false
		}
		for i := range a.Args {
			if strings.HasPrefix(a.Args[i], "--"+flag+"=") {
				a.Args[i] = "--" + flag + "=" + value
				return true
			}
		}
		return false
	}
	return map[string]func(map[string]any, *corev1.PodSpec) bool{
		"no grace period": func(w map[string]any, pod *corev1.PodSpec) bool {
			pod.TerminationGracePeriodSeconds = nil
			return w["kind"] != "Job" || agent(pod) != nil
		},
		"grace period too short": func(_ map[string]any, pod *corev1.PodSpec) bool {
			pod.TerminationGracePeriodSeconds = new(int64(5))
			return agent(pod) != nil
		},
		"grace period of an hour": func(_ map[string]any, pod *corev1.PodSpec) bool {
			pod.TerminationGracePeriodSeconds = new(int64(3600))
			return true
		},
		"agent told another grace period": func(_ map[string]any, pod *corev1.PodSpec) bool { return arg(pod, "grace-period", "7s") },
		"agent told nonsense":             func(_ map[string]any, pod *corev1.PodSpec) bool { return arg(pod, "grace-period", "soon") },
		"hook taken away": func(w map[string]any, pod *corev1.PodSpec) bool {
			had := app(pod).Lifecycle != nil
			app(pod).Lifecycle = nil
			return had && w["kind"] != "Job"
		},
		"agent without its hook": func(_ map[string]any, pod *corev1.PodSpec) bool {
			if agent(pod) == nil {
				return false
			}
			agent(pod).Lifecycle = nil
			return true
		},
		"startup probe taken away": func(_ map[string]any, pod *corev1.PodSpec) bool {
			had := app(pod).StartupProbe != nil && app(pod).LivenessProbe != nil && app(pod).Name != "proxy"
			app(pod).StartupProbe = nil
			return had
		},
		"liveness asks readiness": func(_ map[string]any, pod *corev1.PodSpec) bool {
			c := app(pod)
			if c.LivenessProbe == nil || c.ReadinessProbe == nil || c.ReadinessProbe.TCPSocket != nil {
				return false
			}
			c.LivenessProbe.ProbeHandler = c.ReadinessProbe.ProbeHandler
			return true
		},
		"readiness probes taken away": func(w map[string]any, pod *corev1.PodSpec) bool {
			had := false
			for _, list := range [][]corev1.Container{pod.InitContainers, pod.Containers} {
				for i := range list {
					if list[i].Name != "drain-agent" {
						had = had || list[i].ReadinessProbe != nil
						list[i].ReadinessProbe = nil
					}
				}
			}
			return had && w["kind"] != "Job"
		},
		"resources taken away": func(_ map[string]any, pod *corev1.PodSpec) bool {
			app(pod).Resources = corev1.ResourceRequirements{}
			return true
		},
		"host network": func(_ map[string]any, pod *corev1.PodSpec) bool {
			pod.HostNetwork = true
			return agent(pod) != nil
		},
		"nothing keeps replicas apart": func(w map[string]any, pod *corev1.PodSpec) bool {
			pod.Affinity, pod.TopologySpreadConstraints = nil, nil
			return w["kind"] == "Deployment"
		},
		"one replica": func(w map[string]any, _ *corev1.PodSpec) bool {
			w["spec"].(map[string]any)["replicas"] = 1
			return w["kind"] == "Deployment"
		},
		"proxy first, agent second": func(_ map[string]any, pod *corev1.PodSpec) bool {
			if len(pod.InitContainers) != 2 || agent(pod) == nil {
				return false
			}
			slices.Reverse(pod.InitContainers)
			return true
		},
	}
}

func TestAMutationThatUndoesAPracticeIsFound(t *testing.T) {
	tried := map[string]int{}
	for _, name := range []string{"native", "classic", "job", "gateway", "better-service", "good-service"} {
		text, err := os.ReadFile(filepath.Join(manifests, name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for what, mutate := range mutations() {
			mutated, ok := mutateFile(t, string(text), mutate)
			if !ok {
				continue
			}
			tried[what]++
			docs, err := manifest.Parse(name, []byte(mutated))
			if err != nil {
				t.Fatal(err)
			}
			if len(lint.Run(docs)) == 0 {
				t.Errorf("%s: %s: nothing found", name, what)
			}
		}
	}
	for _, name := range []string{"native", "classic", "better-service", "good-service"} { // budgets and Services are documents of their own
		text, err := os.ReadFile(filepath.Join(manifests, name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for from, to := range map[string]string{"maxUnavailable: 1\n  selector": "maxUnavailable: 0\n  selector", "kind: PodDisruptionBudget": "kind: ConfigMap"} {
			if !strings.Contains(string(text), from) {
				t.Errorf("%s: no %q", name, from)
			}
			if len(ids(t, strings.Replace(string(text), from, to, 1))) == 0 {
				t.Errorf("%s: %q in place of %q: nothing found", name, to, from)
			}
		}
	}
	for what := range mutations() {
		if tried[what] == 0 {
			t.Errorf("no manifest follows the practice that %q undoes", what)
		}
	}
	t.Logf("%v", slices.Sorted(maps.Keys(tried)))
}

func mutateFile(t *testing.T, text string, mutate func(map[string]any, *corev1.PodSpec) bool) (string, bool) {
	t.Helper()
	parts := strings.Split(text, "\n---\n")
	changed := false
	for i, part := range parts {
		var w map[string]any
		if err := yaml.Unmarshal([]byte(part), &w); err != nil {
			t.Fatal(err)
		}
		if w["kind"] != "Deployment" && w["kind"] != "Job" {
			continue
		}
		template := w["spec"].(map[string]any)["template"].(map[string]any)
		raw, err := yaml.Marshal(template["spec"])
		if err != nil {
			t.Fatal(err)
		}
		var pod corev1.PodSpec
		if err := yaml.UnmarshalStrict(raw, &pod); err != nil {
			t.Fatal(err)
		}
		changed = mutate(w, &pod) || changed
		template["spec"] = pod
		out, err := yaml.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		parts[i] = string(out)
	}
	return strings.Join(parts, "\n---\n"), changed
}
