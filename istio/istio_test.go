package istio_test

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"text/template"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	networkingv1alpha3 "istio.io/api/networking/v1alpha3"
	networkingv1beta1 "istio.io/api/networking/v1beta1"
	securityv1beta1 "istio.io/api/security/v1beta1"
	telemetryv1alpha1 "istio.io/api/telemetry/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/istio"
)

// specs are the types of istio.io/api for the kinds used here. The schemas of all versions are the same messages.
func specs() map[string]proto.Message {
	return map[string]proto.Message{
		"PeerAuthentication": new(securityv1beta1.PeerAuthentication), "DestinationRule": new(networkingv1alpha3.DestinationRule),
		"VirtualService": new(networkingv1alpha3.VirtualService), "Gateway": new(networkingv1alpha3.Gateway),
		"EnvoyFilter": new(networkingv1alpha3.EnvoyFilter), "ProxyConfig": new(networkingv1beta1.ProxyConfig),
		"Telemetry": new(telemetryv1alpha1.Telemetry),
	}
}

func TestFilesAreWhatIstioKnows(t *testing.T) {
	known, seen := istioCRDs(t), map[string]bool{}
	for name, document := range documents(t, "*.yaml") {
		object := object(t, name, document)
		if !strings.Contains(object.GetAPIVersion(), "istio.io/") {
			continue
		}
		seen[object.GetKind()] = true
		if err := known.accepts(object); err != nil {
			t.Errorf("%s: the API server would refuse it: %v", name, err)
		}
		if err := decodes(object); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for kind := range specs() {
		if !seen[kind] {
			t.Errorf("no file has a %s", kind)
		}
	}
}

// The article's fields are refused by name, by the schema and by the types.
func TestFieldsThatDoNotExistAreRefused(t *testing.T) {
	object := object(t, "article", file(t, "testdata/article-destination-rule.yaml"))
	err := istioCRDs(t).accepts(object)
	if err == nil {
		t.Fatal("the article's DestinationRule was accepted")
	}
	t.Log(err)
	for _, want := range []string{`unknown field "spec.trafficPolicy.circuitBreaker"`, `unknown field "spec.trafficPolicy.retryPolicy"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %s", err, want)
		}
	}
	if err := decodes(object); err == nil {
		t.Error("the types have the article's fields")
	}
	if err := istioCRDs(t).accepts(objectOf(t, "testdata/article-fault.yaml")); err != nil {
		t.Errorf("the article's fault is valid, only useless: %v", err)
	}
}

// A value that the schema forbids is refused too: the test above is not about names only.
func TestSchemaIsChecked(t *testing.T) {
	text := strings.Replace(string(file(t, "peer-authentication.yaml")), "STRICT", "ALWAYS", 1)
	if err := istioCRDs(t).accepts(object(t, "changed", []byte(text))); err == nil || !strings.Contains(err.Error(), "ALWAYS") {
		t.Errorf("mode ALWAYS: %v", err)
	}
}

func TestEveryFileSaysWhatItIsFor(t *testing.T) {
	for name, document := range documents(t, "*.yaml") {
		if !strings.HasPrefix(string(document), "# ") {
			t.Errorf("%s begins with %q", name, strings.SplitN(string(document), "\n", 2)[0])
		}
	}
}

func TestWorkloadsAreConsistent(t *testing.T) {
	for _, name := range []string{"sidecar.yaml", "sidecar-classic.yaml", "gateway.yaml"} {
		var deployment appsv1.Deployment
		if err := yaml.UnmarshalStrict(file(t, name), &deployment); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		consistent(t, name, &deployment.Spec.Template.Spec)
	}
}

// The injection template is rendered as Istio renders it, merged by Kubernetes' rules and then held against the same demands.
func TestInjectionTemplateGivesTheSamePod(t *testing.T) {
	pod := corev1.PodSpec{Containers: []corev1.Container{{Name: "payments"}, {Name: "ledger"}}}
	text, err := injected(t, pod, nil)
	if err != nil {
		t.Fatal(err)
	}
	var overlay corev1.Pod
	if err := yaml.UnmarshalStrict([]byte(text), &overlay); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if len(overlay.Spec.Containers) != 2 {
		t.Fatalf("%d of 2 containers are held", len(overlay.Spec.Containers))
	}
	for i, want := range []string{"app", "ledger"} {
		hook := overlay.Spec.Containers[i]
		if hook.Name != pod.Containers[i].Name || hook.Lifecycle.PreStop.Exec.Command[2] != want {
			t.Errorf("container %d is held as %+v, want %s", i, hook.Lifecycle, want)
		}
	}
	if s := overlay.Spec.SecurityContext; s == nil || s.FSGroup == nil {
		t.Error("without a common group the hooks of other users cannot reach the agent's socket")
	}
	overlay.Spec.TerminationGracePeriodSeconds = new(int64(60))
	consistent(t, "injection-template.yaml", &overlay.Spec)
}

// What the template cannot serve fails at admission, with a way out, instead of starting a pod that loses requests.
func TestInjectionTemplateRefuses(t *testing.T) {
	one := corev1.PodSpec{Containers: []corev1.Container{{Name: "payments"}}}
	hooked := corev1.PodSpec{Containers: []corev1.Container{{Name: "payments", Lifecycle: &corev1.Lifecycle{
		PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 5}},
	}}}}
	named := corev1.PodSpec{Containers: []corev1.Container{{Name: "payments"}, {Name: "app"}}}
	for name, row := range map[string]struct {
		pod         corev1.PodSpec
		annotations map[string]string
		want        string
	}{
		"a classic sidecar":     {one, map[string]string{"sidecar.istio.io/nativeSidecar": "false"}, "native"},
		"a hook of its own":     {hooked, nil, "payments has a preStop hook"},
		"a name that is ours":   {named, nil, "may not be called app"},
		"an accepted pod":       {one, map[string]string{"sidecar.istio.io/nativeSidecar": "true"}, ""},
		"an app called app too": {corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}}, nil, ""},
	} {
		_, err := injected(t, row.pod, row.annotations)
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%s is refused: %v", name, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "drainctl inject")):
			t.Errorf("%s: %v, want it refused with %q and the way out", name, err, row.want)
		}
	}
}

// injected renders the template as Istio does: its own functions and those of sprig, of which the template uses these.
func injected(t *testing.T, spec corev1.PodSpec, annotations map[string]string) (string, error) {
	t.Helper()
	var values struct {
		Webhook struct {
			Templates map[string]string `json:"templates"`
		} `json:"sidecarInjectorWebhook"`
	}
	if err := yaml.UnmarshalStrict(file(t, "injection-template.yaml"), &values); err != nil {
		t.Fatal(err)
	}
	functions := template.FuncMap{
		"annotation": func(meta metav1.ObjectMeta, name, otherwise string) string {
			if value, ok := meta.Annotations[name]; ok {
				return value
			}
			return otherwise
		},
		"default": func(otherwise, value string) string { return cmp.Or(value, otherwise) },
		"fail":    func(why string) (string, error) { return "", errors.New(why) },
		"list":    func(all ...string) []string { return all },
		"append":  func(all []string, one string) []string { return append(all, one) },
		"has":     func(one string, all []string) bool { return slices.Contains(all, one) },
		"join":    func(separator string, all []string) string { return strings.Join(all, separator) },
		"ternary": func(yes, no string, which bool) string {
			if which {
				return yes
			}
			return no
		},
	}
	parsed, err := template.New("drain-agent").Option("missingkey=error").Funcs(functions).Parse(values.Webhook.Templates["drain-agent"])
	if err != nil {
		t.Fatal(err)
	}
	spec.TerminationGracePeriodSeconds = new(int64(60))
	var text bytes.Buffer
	err = parsed.Execute(&text, struct { // the part of Istio's SidecarTemplateData that is used
		ObjectMeta     metav1.ObjectMeta
		Spec           corev1.PodSpec
		NativeSidecars bool
	}{metav1.ObjectMeta{Annotations: annotations}, spec, true})
	return text.String(), err
}

// consistent checks what an agent in a mesh needs: never UID 1337, the grace it is told, a hook for each name it is told, and
// the port that the app closes last, that of its management: until then it may need the proxy.
func consistent(t *testing.T, name string, pod *corev1.PodSpec) {
	t.Helper()
	all := slices.Concat(pod.InitContainers, pod.Containers)
	agent := slices.IndexFunc(all, func(c corev1.Container) bool { return c.Name == "drain-agent" })
	if agent < 0 {
		t.Fatalf("%s has no drain-agent", name)
	}
	if context := pod.SecurityContext; context != nil && context.RunAsUser != nil && *context.RunAsUser == 1337 {
		t.Errorf("%s runs as UID 1337", name)
	}
	hooks := 0
	for _, c := range all {
		for _, mount := range c.VolumeMounts {
			if mount.MountPath == "/drain-agent" {
				t.Errorf("%s: %s mounts %s over the image's program, so it never starts", name, c.Name, mount.Name)
			}
		}
		if c.Image == "auto" && c.ImagePullPolicy == "" {
			t.Errorf("%s: %s has no pull policy: the API server writes Always before Istio sees the pod", name, c.Name)
		}
		if s := c.SecurityContext; s != nil && s.RunAsUser != nil && *s.RunAsUser == 1337 {
			t.Errorf("%s: %s runs as UID 1337", name, c.Name)
		}
		if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
			hooks++
		}
		for _, arg := range c.Args {
			if port, is := strings.CutPrefix(arg, "--mgmt-port="); is && !slices.Contains(all[agent].Args, "--watch=app=port:"+port) {
				t.Errorf("%s: the agent is told %v, the app closes port %s last", name, all[agent].Args, port)
			}
		}
	}
	args := all[agent].Args
	if !slices.Contains(args, "--grace-period=60s") || *pod.TerminationGracePeriodSeconds != 60 {
		t.Errorf("%s: the agent is told %v, the pod has %d s", name, args, *pod.TerminationGracePeriodSeconds)
	}
	i := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--hooks=") })
	if i < 0 || strings.Count(args[i], ",")+1 != hooks {
		t.Errorf("%s: %d hooks, the agent is told %v", name, hooks, args)
	}
}

// decodes reads the spec strictly into Istio's own type.
func decodes(object *unstructured.Unstructured) error {
	spec, err := yaml.Marshal(object.Object["spec"])
	if err != nil {
		return err
	}
	text, err := yaml.YAMLToJSON(spec)
	if err != nil {
		return err
	}
	return protojson.Unmarshal(text, specs()[object.GetKind()])
}

func documents(t *testing.T, pattern string) map[string][]byte {
	t.Helper()
	names, err := fs.Glob(istio.Files, pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	found := map[string][]byte{}
	for _, name := range names {
		for i, document := range bytes.Split(file(t, name), []byte("\n---\n")) {
			found[name+"#"+string(rune('1'+i))] = document
		}
	}
	return found
}

func file(t *testing.T, name string) []byte {
	t.Helper()
	text, err := istio.Files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func objectOf(t *testing.T, name string) *unstructured.Unstructured {
	return object(t, name, file(t, name))
}

func object(t *testing.T, name string, document []byte) *unstructured.Unstructured {
	t.Helper()
	found := new(unstructured.Unstructured)
	if err := yaml.UnmarshalStrict(document, &found.Object); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return found
}
