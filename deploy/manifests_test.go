package deploy_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const hookPort = 9909

func TestGracePeriodOfThePodIsWhatTheAgentIsTold(t *testing.T) {
	for name, pod := range podsWithAgent(t) {
		want := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
		got, err := time.ParseDuration(flag(agent(pod), "grace-period"))
		if err != nil || got != want {
			t.Errorf("%s: --grace-period=%v (%v), terminationGracePeriodSeconds is %v", name, got, err, want)
		}
	}
}

func TestHooksOfThePodAreTheOnesTheAgentExpects(t *testing.T) {
	for name, pod := range podsWithAgent(t) {
		var called []string
		for _, container := range containers(pod) {
			if container.Lifecycle == nil || container.Lifecycle.PreStop == nil {
				continue
			}
			get := container.Lifecycle.PreStop.HTTPGet
			if get == nil || get.Port.IntValue() != hookPort {
				t.Errorf("%s: preStop of %s is %+v, want httpGet on port number %d", name, container.Name, container.Lifecycle.PreStop, hookPort)
				continue
			}
			called = append(called, strings.TrimPrefix(get.Path, "/prestop/"))
		}
		expected := strings.Split(flag(agent(pod), "hooks"), ",")
		slices.Sort(called)
		slices.Sort(expected)
		if !slices.Equal(called, expected) {
			t.Errorf("%s: the pod calls the hooks %v, --hooks says %v", name, called, expected)
		}
	}
}

func TestTheAgentStandsWhereItCanDoItsWork(t *testing.T) {
	place := map[string][]string{ // containers in the order kubelet starts them
		"native": {"drain-agent", "proxy", "app"}, "better-service": {"drain-agent", "proxy", "app"}, "mtls": {"drain-agent", "proxy", "app"},
		"classic": {"proxy", "drain-agent", "app"}, "job": {"drain-agent", "proxy", "app"}, "gateway": {"drain-agent", "proxy"},
	}
	for name, pod := range podsWithAgent(t) {
		var order []string
		for _, container := range containers(pod) {
			order = append(order, container.Name)
		}
		if !slices.Equal(order, place[name]) {
			t.Errorf("%s: containers %v, want %v", name, order, place[name])
		}
	}
}

// The payment service closes its store and sends its traces after its serving port is closed; they may need the proxy.
func TestTheAppIsGoneWhenItsLastPortIs(t *testing.T) {
	for name, pod := range podsWithAgent(t) {
		watch := flag(agent(pod), "watch")
		if watch == "" {
			continue
		}
		if want := "app=port:" + flag(named(pod, "app"), "mgmt-port"); watch != want {
			t.Errorf("%s: --watch=%s, want %s, the port of the app's management", name, watch, want)
		}
	}
}

// skeleton are the keys that every manifest has, and those that only hold others.
var skeleton = strings.Fields(`apiVersion kind metadata name namespace labels data spec template selector matchLabels labelSelector
	containers initContainers ports env valueFrom fieldPath command lifecycle affinity podAffinityTerm volumes mountPath containerPort
	httpGet exec type`)

// Whatever we set has its reason on the page.
func TestEveryFieldHasItsReason(t *testing.T) {
	text, err := os.ReadFile("../docs/reference/manifests.md")
	if err != nil {
		t.Fatal(err)
	}
	page := regexp.MustCompile("`[^`]+`").FindAllString(string(text), -1)
	told := func(word string) bool {
		whole := regexp.MustCompile(`(^|[^\w-])` + regexp.QuoteMeta(word) + `($|[^\w-])`)
		return slices.Contains(skeleton, word) || slices.ContainsFunc(page, whole.MatchString)
	}
	files, err := filepath.Glob("manifests/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		for word := range words(t, file) {
			if !told(word) {
				t.Errorf("%s sets %s: docs/reference/manifests.md does not say why", file, word)
			}
		}
	}
}

// words are the keys of a file's objects, and the flags among their arguments.
func words(t *testing.T, file string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	var walk func(any)
	walk = func(node any) {
		switch node := node.(type) {
		case map[string]any:
			for key, value := range node {
				all[key] = true
				if !slices.Contains([]string{"labels", "matchLabels", "data", "selector"}, key) {
					walk(value)
				}
			}
		case []any:
			for _, value := range node {
				walk(value)
			}
		case string:
			if flag, _, _ := strings.Cut(node, "="); strings.HasPrefix(flag, "--") {
				all[flag] = true
			}
		}
	}
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var object map[string]any
		if err := yaml.Unmarshal(document, &object); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		walk(object)
	}
	return all
}

// Istio leaves the traffic of UID 1337 alone, and the restricted Pod Security level refuses root.
func TestUserIsNeitherRootNorIstios(t *testing.T) {
	for name, pod := range podsWithAgent(t) {
		if uid := pod.SecurityContext.RunAsUser; uid == nil || *uid == 0 || *uid == 1337 {
			t.Errorf("%s: runAsUser %v", name, uid)
		}
	}
}

func podsWithAgent(t *testing.T) map[string]corev1.PodSpec {
	t.Helper()
	pods := map[string]corev1.PodSpec{}
	files, err := filepath.Glob("manifests/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		for _, pod := range podsOf(t, file) {
			if agent(pod) != nil {
				pods[strings.TrimSuffix(filepath.Base(file), ".yaml")] = pod
			}
		}
	}
	if len(pods) != 6 {
		t.Fatalf("found an agent in %d manifests, want 6: run deploy/render?", len(pods))
	}
	return pods
}

func podsOf(t *testing.T, file string) []corev1.PodSpec {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var pods []corev1.PodSpec
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(document, &kind); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		switch kind.Kind {
		case "Deployment":
			var deployment appsv1.Deployment
			strict(t, file, document, &deployment)
			pods = append(pods, deployment.Spec.Template.Spec)
		case "Job":
			var job batchv1.Job
			strict(t, file, document, &job)
			pods = append(pods, job.Spec.Template.Spec)
		}
	}
	return pods
}

func strict(t *testing.T, file string, document []byte, object any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(document, object); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// containers lists them in start order.
func containers(pod corev1.PodSpec) []corev1.Container {
	return slices.Concat(pod.InitContainers, pod.Containers)
}

func agent(pod corev1.PodSpec) *corev1.Container { return named(pod, "drain-agent") }

// named returns the container of that name, or nil.
func named(pod corev1.PodSpec, name string) *corev1.Container {
	all := containers(pod)
	if i := slices.IndexFunc(all, func(c corev1.Container) bool { return c.Name == name }); i >= 0 {
		return &all[i]
	}
	return nil
}

func flag(container *corev1.Container, name string) string {
	for _, arg := range container.Args {
		if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			return value
		}
	}
	return ""
}
