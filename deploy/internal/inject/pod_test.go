package inject_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// admitted is what becomes of a workload's pod at admission, and the pod that it was made from.
func admitted(t *testing.T, w *manifest.Workload, objects []*manifest.Object, o inject.Options) (inject.Outcome, corev1.Pod) {
	t.Helper()
	raw, err := json.Marshal(podOf(w))
	if err != nil {
		t.Fatal(err)
	}
	docs, err := manifest.Parse("pod", raw)
	if err != nil || docs[0].Objects[0].Workload == nil {
		t.Fatal(err)
	}
	docs[0].Objects[0].Namespace = w.Namespace
	out := inject.Pod(docs[0].Objects[0].Workload, objects, o)
	if len(out.Patch) > 0 {
		operations, err := json.Marshal(out.Patch)
		if err != nil {
			t.Fatal(err)
		}
		patch, err := jsonpatch.DecodePatch(operations)
		if err == nil {
			raw, err = patch.Apply(raw)
		}
		if err != nil {
			t.Fatalf("%v: %s", err, operations)
		}
	}
	var pod corev1.Pod
	if err := json.Unmarshal(raw, &pod); err != nil {
		t.Fatal(err)
	}
	return out, pod
}

func podOf(w *manifest.Workload) corev1.Pod {
	pod := corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: w.Pod.ObjectMeta, Spec: w.Pod.Spec}
	if w.Kind == "Pod" {
		pod.ObjectMeta = w.ObjectMeta
	}
	pod.Name, pod.Namespace, pod.GenerateName = "", w.Namespace, w.Name+"-"
	return pod
}

// compare compares the pod of a file that drainctl injected with the one of admission. waits counts pods whose Envoy a mesh has still to add.
func compare(t *testing.T, name string, text []byte, o inject.Options) (equal, waits int) {
	t.Helper()
	o.Token, o.KeepGoing = "TOKEN", true
	docs, _ := manifest.Parse(name, text)
	objects := manifest.Objects(docs)
	once, reports, _ := inject.File(name, text, o)
	if once == nil {
		return 0, 0
	}
	after, err := manifest.Parse(name, once)
	if err != nil {
		return 0, 0 // of the public files some cannot be read
	}
	changed := manifest.Objects(after)
	for i, object := range objects {
		if object.Workload == nil || len(changed) != len(objects) {
			continue
		}
		injected := slices.ContainsFunc(reports, func(r inject.Report) bool {
			return r.Plan != nil && r.Object.Kind == object.Kind && r.Object.Name == object.Name && r.Object.Namespace == object.Namespace
		})
		what := name + ": " + object.Kind + " " + object.Name
		out, pod := admitted(t, object.Workload, objects, o)
		switch {
		case out.State == inject.Waiting && injected:
			waits++
		case (out.State == inject.Injected) != injected:
			if object.Workload.Pod.Spec.HostNetwork || object.Annotations["drain-agent.io/inject"] != "" || object.Labels["drain-agent.io/inject"] != "" {
				continue // what the workload says, a pod of it does not know
			}
			t.Errorf("%s: %s (%s), by drainctl injected: %v", what, out.State, out.Why, injected)
		case injected:
			equal++
			want := podOf(changed[i].Workload)
			pod.Name, want.Name = "", ""
			if object.Workload.Pod.Spec.HostNetwork {
				continue // its port depends on the others in the files
			}
			if !equality.Semantic.DeepEqual(pod.Spec, want.Spec) || !equality.Semantic.DeepEqual(pod.Annotations, want.Annotations) || !equality.Semantic.DeepEqual(pod.Labels, want.Labels) {
				a, _ := yaml.Marshal(pod)
				b, _ := yaml.Marshal(want)
				t.Errorf("%s: admission\n%s\ndrainctl\n%s", what, a, b)
			}
			if again, second := admitted(t, workloadOf(t, pod), objects, o); again.State != inject.Already || !equality.Semantic.DeepEqual(second.Spec, pod.Spec) {
				t.Errorf("%s: a second call: %s", what, again.State)
			}
		}
	}
	return equal, waits
}

func workloadOf(t *testing.T, pod corev1.Pod) *manifest.Workload {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	return pods(t, "pod", raw)[0]
}

// The webhook's pod is drainctl's pod.
func TestAdmissionEqualsInject(t *testing.T) {
	equal, waits := 0, 0
	for name, text := range shapes(t) {
		e, w := compare(t, name, text, options(name))
		equal, waits = equal+e, waits+w
	}
	t.Logf("%d pods are the same; %d wait for their mesh", equal, waits)
	if equal < 50 {
		t.Errorf("only %d pods were compared", equal)
	}
}

func TestCorpusAdmissionEqualsInject(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(corpus(t), "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	equal, waits := 0, 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		e, w := compare(t, filepath.Base(file), text, options("corpus"))
		equal, waits = equal+e, waits+w
	}
	t.Logf("%d files: %d pods are the same; %d wait for their mesh", len(files), equal, waits)
}

func TestPodsThatAreLeftAlone(t *testing.T) {
	const envoy = "\n  - {name: envoy, image: envoyproxy/envoy:v1.40.0}\n"
	const spec = "spec:\n  containers:\n  - {name: app, image: \"app:1\", ports: [{containerPort: 8080}]}"
	for text, want := range map[string]inject.State{
		spec + envoy: inject.Injected,
		"metadata: {labels: {drain-agent.io/inject: \"false\"}}\n" + spec + envoy:                 inject.OptedOut,
		"metadata: {annotations: {drain-agent.io/inject: disabled}}\n" + spec + envoy:             inject.OptedOut,
		"metadata: {annotations: {kubernetes.io/config.mirror: abc}}\n" + spec + envoy:            inject.Refused,
		spec + envoy + "  nodeSelector: {kubernetes.io/os: windows}\n":                            inject.NoEnvoy,
		spec + envoy + "  os: {name: windows}\n":                                                  inject.NoEnvoy,
		spec + envoy + "  nodeSelector: {kubernetes.io/arch: arm64}\n":                            inject.Injected,
		spec + envoy + "  - {name: drain-agent, image: a}\n":                                      inject.Already,
		spec + envoy + "  - {name: guard, image: \"registry.example/drain-agent:v1\"}\n":          inject.Already,
		spec + envoy + "  - {name: guard, image: own, args: [run, \"--stop-order=app,proxy\"]}\n": inject.Already,
		spec + envoy + "  - {name: guard, image: \"registry.example/drain-agent-exporter:1\"}\n":  inject.Injected,
		spec: inject.NoEnvoy,
		spec + "\n  - {name: linkerd-proxy, image: \"cr.l5d.io/linkerd/proxy:edge\"}\n":     inject.NoEnvoy,
		"metadata: {labels: {sidecar.istio.io/inject: \"true\"}}\n" + spec:                  inject.Waiting,
		"metadata: {annotations: {consul.hashicorp.com/connect-inject: \"true\"}}\n" + spec: inject.Waiting,
		"metadata: {labels: {kuma.io/sidecar-injection: enabled}}\n" + spec:                 inject.Waiting,
		spec + "\n  - {name: istio-proxy, image: auto}\n":                                   inject.Waiting,
		spec + envoy + "  - {name: second, image: envoyproxy/envoy:v1.40.0}\n":              inject.Refused,
	} {
		w := pods(t, "pod", []byte("apiVersion: v1\nkind: Pod\n"+text))[0]
		out, _ := admitted(t, w, nil, options(""))
		if out.State != want || (want != inject.Injected) != (out.Why != "") {
			t.Errorf("%s\n%s (%s), want %s", text, out.State, out.Why, want)
		}
	}
}

func TestSettings(t *testing.T) {
	o, problems := inject.Options{Image: "agent:1"}.With(map[string]string{
		"drain-agent.io/inject": "enabled", "drain-agent.io/roles": "a=serving", "other.io/preset": "x",
		"drain-agent.io/preset": "nlb", "drain-agent.io/grace-period": "45s", "drain-agent.io/quiet-max": "20s", "drain-agent.io/app-source": "a\n\n b \n",
		"drain-agent.io/replace-hook": "a,b", "drain-agent.io/mode": "observe",
	})
	if len(problems) > 0 || o.Preset != "nlb" || o.Grace.Seconds() != 45 || !slices.Equal(o.AppSource, []string{"a", "b"}) || !slices.Equal(o.ReplaceHooks, []string{"a", "b"}) ||
		!slices.Equal(o.AgentArgs, []string{"--mode=observe", "--quiet-max=20s"}) {
		t.Errorf("%+v %v", o, problems)
	}
	pod, _ := o.With(map[string]string{"drain-agent.io/quiet-max": "5s"}) // outranks its namespace
	if !slices.Equal(pod.AgentArgs, []string{"--mode=observe", "--quiet-max=5s"}) || !slices.Equal(o.AgentArgs, []string{"--mode=observe", "--quiet-max=20s"}) {
		t.Errorf("%v, the namespace's %v", pod.AgentArgs, o.AgentArgs)
	}
	for key, value := range map[string]string{"image": "evil:1", "preset": "moon", "grace-period": "soon", "quiet-max": "-1s", "shape": "round", "mode": "both", "listen": ":1", "hooks": "a", "token-file": "/etc/shadow", "nonsense": ""} {
		o, problems := inject.Options{Image: "agent:1", RefuseImage: true}.With(map[string]string{"drain-agent.io/" + key: value})
		if len(problems) != 1 || !strings.Contains(problems[0], key) || o.Image != "agent:1" || len(o.AgentArgs) > 0 || o.Preset != "" || o.Shape != "" {
			t.Errorf("%s=%s: %v, %+v", key, value, problems, o)
		}
	}
	if o, problems := (inject.Options{}).With(map[string]string{"drain-agent.io/image": "mine:2"}); o.Image != "mine:2" || len(problems) > 0 {
		t.Errorf("%q %v", o.Image, problems)
	}
}
