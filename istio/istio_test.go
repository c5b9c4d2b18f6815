package istio_test

import (
	"bytes"
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
	for _, name := range []string{"sidecar.yaml", "gateway.yaml"} {
		var deployment appsv1.Deployment
		if err := yaml.UnmarshalStrict(file(t, name), &deployment); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		consistent(t, name, &deployment.Spec.Template.Spec)
	}
}

// The injection template is rendered as Istio renders it, merged by Kubernetes' rules and then held against the same demands.
func TestInjectionTemplateGivesTheSamePod(t *testing.T) {
	var values struct {
		Webhook struct {
			Templates map[string]string `json:"templates"`
		} `json:"sidecarInjectorWebhook"`
	}
	if err := yaml.UnmarshalStrict(file(t, "injection-template.yaml"), &values); err != nil {
		t.Fatal(err)
	}
	annotation := func(meta metav1.ObjectMeta, name, otherwise string) string {
		if value, ok := meta.Annotations[name]; ok {
			return value
		}
		return otherwise
	}
	parsed, err := template.New("drain-agent").Option("missingkey=error").Funcs(template.FuncMap{"annotation": annotation}).Parse(values.Webhook.Templates["drain-agent"])
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	pod := corev1.Pod{Spec: corev1.PodSpec{TerminationGracePeriodSeconds: new(int64(60)), Containers: []corev1.Container{{Name: "payments"}}}}
	err = parsed.Execute(&text, struct { // the part of Istio's SidecarTemplateData that is used
		ObjectMeta metav1.ObjectMeta
		Spec       corev1.PodSpec
	}{Spec: pod.Spec})
	if err != nil {
		t.Fatal(err)
	}
	var overlay corev1.Pod
	if err := yaml.UnmarshalStrict(text.Bytes(), &overlay); err != nil {
		t.Fatalf("%v\n%s", err, text.String())
	}
	if overlay.Annotations["traffic.sidecar.istio.io/excludeInboundPorts"] != "9909" {
		t.Error("the agent's port leads through Envoy")
	}
	if hook := overlay.Spec.Containers[0]; hook.Name != "payments" || hook.Lifecycle == nil {
		t.Errorf("the first container gets no hook: %+v", hook)
	}
	if s := overlay.Spec.SecurityContext; s == nil || s.FSGroup == nil {
		t.Error("without a common group the hooks of other users cannot reach the agent's socket")
	}
	overlay.Spec.TerminationGracePeriodSeconds = new(int64(60))
	consistent(t, "injection-template.yaml", &overlay.Spec)
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
