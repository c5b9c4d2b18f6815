package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

var labelled = map[string]string{"drain-agent.io/inject": "enabled"}

const envoyPod = `
metadata: {generateName: web-}
spec:
  containers:
  - {name: app, image: "registry.example/web:1", ports: [{containerPort: 8080}]}
  - {name: envoy, image: "envoyproxy/envoy:v1.40.0", ports: [{containerPort: 8000}]}
`

// create makes a pod as the API server stores it.
func (s *server) create(t testing.TB, namespace, text string, change ...func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(text), pod); err != nil {
		t.Fatal(err)
	}
	pod.Namespace = namespace
	for _, f := range change {
		f(pod)
	}
	if err := s.client.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

func agentOf(pod *corev1.Pod) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == "drain-agent" {
				return &list[i]
			}
		}
	}
	return nil
}

func label(value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{"drain-agent.io/inject": value} }
}

func annotate(name, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		metav1.SetMetaDataAnnotation(&p.ObjectMeta, "drain-agent.io/"+name, value)
	}
}

// The API server itself asks, through the Service, with the certificate that the controller made, as the ServiceAccount with the
// rights of the chart.
func TestPodsAtTheAPIServer(t *testing.T) {
	s := apiServer(t)
	s.controller(t)
	on, off := s.namespace(t, labelled, nil), s.namespace(t, nil, nil)
	for name, row := range map[string]struct {
		namespace string
		change    []func(*corev1.Pod)
		agent     bool
		warning   string
	}{
		"labelled namespace":            {on, nil, true, ""},
		"labelled pod":                  {off, []func(*corev1.Pod){label("enabled")}, true, ""},
		"neither":                       {off, nil, false, ""},
		"the pod's label opts out":      {on, []func(*corev1.Pod){label("disabled")}, false, ""},
		"the pod's annotation opts out": {on, []func(*corev1.Pod){annotate("inject", "false")}, false, ""},
		"own namespace":                 {ownNamespace, []func(*corev1.Pod){label("enabled")}, false, ""},
		"kube-system":                   {"kube-system", []func(*corev1.Pod){label("enabled")}, false, ""},
		"no Envoy is no warning":        {on, []func(*corev1.Pod){func(p *corev1.Pod) { p.Spec.Containers = p.Spec.Containers[:1] }}, false, ""},
		"a static pod's copy": {on, []func(*corev1.Pod){func(p *corev1.Pod) {
			p.Spec.NodeName = "node"
			metav1.SetMetaDataAnnotation(&p.ObjectMeta, corev1.MirrorPodAnnotationKey, "1")
		}}, false, ""},
		"cannot be planned":               {on, []func(*corev1.Pod){func(p *corev1.Pod) { p.Spec.Containers[0].Image = "envoyproxy/envoy:v1" }}, false, "drain-agent is not added: two containers look like Envoy"},
		"annotation that nobody knows":    {on, []func(*corev1.Pod){annotate("nonsense", "1")}, true, "drain-agent.io/nonsense: no such annotation"},
		"annotation with an image":        {on, []func(*corev1.Pod){annotate("image", "evil:1")}, true, "takes no image from annotations"},
		"annotation that cannot be read":  {on, []func(*corev1.Pod){annotate("quiet-max", "soon")}, true, `drain-agent.io/quiet-max: "soon"`},
		"annotation of the agent's flags": {on, []func(*corev1.Pod){annotate("quiet-max", "7s")}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s.warnings.take()
			pod := s.create(t, row.namespace, envoyPod, row.change...)
			agent, said := agentOf(pod), s.warnings.take()
			if (agent != nil) != row.agent || row.warning == "" && said != "" || !strings.Contains(said, row.warning) {
				t.Errorf("agent %v, warnings %q; want agent %v, warning %q", agent != nil, said, row.agent, row.warning)
			}
			if agent != nil && agent.Image != agentImage {
				t.Errorf("image %s", agent.Image)
			}
			if agent != nil && strings.Contains(strings.Join(agent.Args, " "), "--quiet-max=7s") != (pod.Annotations["drain-agent.io/quiet-max"] == "7s") {
				t.Errorf("arguments %q", agent.Args)
			}
		})
	}
	t.Run("defaults of a namespace", func(t *testing.T) {
		ns := s.namespace(t, labelled, map[string]string{"drain-agent.io/preset": "nlb", "drain-agent.io/settle": "300ms"})
		agent := agentOf(s.create(t, ns, envoyPod, annotate("settle", "400ms")))
		if args := strings.Join(agent.Args, " "); !strings.Contains(args, "--preset=nlb") || !strings.Contains(args, "--settle=400ms") || strings.Contains(args, "300ms") {
			t.Errorf("arguments %q", agent.Args)
		}
	})
	t.Run("audit", func(t *testing.T) {
		name := func(name string) func(*corev1.Pod) {
			return func(p *corev1.Pod) { p.Name, p.GenerateName = name, "" }
		}
		said := s.audited(t, s.create(t, on, envoyPod, name("audited")))
		if said["namespaces.drain-agent.io/state"] != "injected" || !strings.Contains(said["namespaces.drain-agent.io/added"], "agent as a native sidecar, hooks for app, envoy") {
			t.Errorf("%q", said)
		}
		said = s.audited(t, s.create(t, on, envoyPod, name("refused"), func(p *corev1.Pod) { p.Spec.Containers[0].Image = "envoyproxy/envoy:v1" }))
		if said["namespaces.drain-agent.io/state"] != "refused" || !strings.Contains(said["namespaces.drain-agent.io/reason"], "two containers look like Envoy") {
			t.Errorf("%q", said)
		}
	})
	t.Run("an agent that somebody wrote stays", func(t *testing.T) {
		for _, name := range []string{"drain-agent", "guard"} {
			manifest := strings.Replace(envoyPod, "generateName: web-", "name: has-"+name, 1) + "  - {name: " + name + ", image: \"old/drain-agent:1\", args: [run, \"--hooks=app,envoy,agent\"]}\n"
			s.warnings.take()
			pod := s.create(t, on, manifest, annotate("quiet-max", "7s"))
			if said := s.warnings.take(); len(pod.Spec.InitContainers)+len(pod.Spec.Containers) != 3 || said != "" {
				t.Errorf("%s: %s, warnings %q", name, text(t, pod.Spec), said)
			}
			if said := s.audited(t, pod); said["namespaces.drain-agent.io/state"] != "already" {
				t.Errorf("%s: %q", name, said)
			}
		}
	})
	t.Run("resources of the pod as a whole leave no room", func(t *testing.T) {
		all := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("200m"), corev1.ResourceMemory: resource.MustParse("64Mi")}
		pod := s.create(t, on, envoyPod, func(p *corev1.Pod) { // the API server refuses more than all
			p.Spec.Resources = &corev1.ResourceRequirements{Requests: all, Limits: all}
			p.Spec.Containers[0].Resources.Requests = all
		})
		if agentOf(pod) == nil {
			t.Error("no agent")
		}
	})
	t.Run("kubectl apply", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "pod.yaml")
		apply := func(manifest, want string) string {
			t.Helper()
			if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
				t.Fatal(err)
			}
			if said := s.kubectl(t, "-n", on, "apply", "-f", file); strings.TrimSpace(said) != "pod/applied "+want {
				t.Errorf("%s, want %s", said, want)
			}
			var pod corev1.Pod
			if err := s.client.Get(t.Context(), client.ObjectKey{Namespace: on, Name: "applied"}, &pod); err != nil {
				t.Fatal(err)
			}
			if agentOf(&pod) == nil {
				t.Error("no agent")
			}
			out := corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Annotations: pod.Annotations}, Spec: pod.Spec}
			delete(out.Annotations, corev1.LastAppliedConfigAnnotation)
			return text(t, &out)
		}
		plain := "apiVersion: v1\nkind: Pod" + strings.Replace(envoyPod, "generateName: web-", "name: applied", 1)
		injected := apply(plain, "created")
		apply(plain, "unchanged")
		if again := apply(injected, "configured"); again != injected { // the annotation of kubectl alone
			t.Errorf("%s\nbecame\n%s", injected, again)
		}
		if err := s.client.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: on, Name: "applied"}}, client.GracePeriodSeconds(0)); err != nil {
			t.Fatal(err)
		}
		if again := apply(injected, "created"); again != injected {
			t.Errorf("%s\nbecame\n%s", injected, again)
		}
	})
	t.Run("ephemeral containers are nobody's business", func(t *testing.T) {
		pod := s.create(t, on, envoyPod)
		before := text(t, pod.Spec)
		pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "a:1", ImagePullPolicy: corev1.PullAlways, TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile}}}
		s.warnings.take()
		if err := s.client.SubResource("ephemeralcontainers").Update(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		said := s.warnings.take()
		if pod.Spec.EphemeralContainers = nil; text(t, pod.Spec) != before || said != "" {
			t.Errorf("%s\nbecame\n%s\nwarnings %q", before, text(t, pod.Spec), said)
		}
	})
	t.Run("what is stored is left as it is", func(t *testing.T) {
		pod := s.create(t, on, envoyPod)
		again := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "again-", Namespace: on, Annotations: pod.Annotations}, Spec: pod.Spec}
		before := again.Spec.DeepCopy()
		if err := s.client.Create(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		if a, b := text(t, before), text(t, again.Spec); a != b {
			t.Errorf("%s\nbecame\n%s", a, b)
		}
	})
}

func text(t testing.TB, v any) string {
	t.Helper()
	out, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
