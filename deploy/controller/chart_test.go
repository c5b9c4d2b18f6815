package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/scripts/apiserver"
	"github.com/drain-agent/drain-agent/scripts/cached"
)

// What others define that the chart uses.
var foreignCRDs = []string{
	"github.com/cert-manager/cert-manager@v1.21.2/deploy/crds/cert-manager.io_certificates.yaml",
	"github.com/cert-manager/cert-manager@v1.21.2/deploy/crds/cert-manager.io_issuers.yaml",
	"github.com/prometheus-operator/prometheus-operator@v0.85.0/example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
	"github.com/prometheus-operator/prometheus-operator@v0.85.0/example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
}

// crds installs those of cert-manager and of the Prometheus operator, out of their own modules, until the test ends.
func (s *server) crds(t *testing.T) {
	t.Helper()
	var files []string
	for _, file := range foreignCRDs {
		module, rest, _ := strings.Cut(file, "@")
		version, path, _ := strings.Cut(rest, "/")
		dir, err := cached.GoModule(t.Context(), module, version)
		if err != nil {
			t.Skipf("needs the module %s, for its CRDs, in Go's cache or from its proxy: %v", module, err)
		}
		files = append(files, filepath.Join(dir, path))
	}
	options := envtest.CRDInstallOptions{Paths: files, ErrorIfPathMissing: true}
	if _, err := envtest.InstallCRDs(s.config, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := envtest.UninstallCRDs(s.config, options); err != nil {
			t.Error(err)
		}
	})
}

// Everything that any combination of values makes is taken by the API server without a word; its pods in a namespace where Pod Security
// demands "restricted".
func TestEveryCombinationOfValuesIsAccepted(t *testing.T) {
	s := emptyServer(t)
	s.crds(t)
	text, err := exec.CommandContext(t.Context(), "go", "run", "-C", "../../scripts/chart", ".", "combinations").Output()
	if err != nil {
		t.Fatal(err)
	}
	restricted := s.namespace(t, map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}, nil)
	kinds := map[string]int{}
	try := func(from string, o client.Object) {
		t.Helper()
		s.warnings.take()
		err := s.client.Create(t.Context(), o, client.DryRunAll, client.FieldValidation("Strict"))
		if said := s.warnings.take(); err != nil || said != "" {
			t.Errorf("%v, warnings %q\n%s", err, said, from)
		}
	}
	for document := range bytes.SplitSeq(text, []byte("---\n")) {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &o.Object); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		if o.Object == nil {
			continue
		}
		kinds[o.GetKind()]++
		if o.GetKind() == "Pod" {
			o.SetNamespace(restricted)
		}
		try(string(document), o)
		var d appsv1.Deployment
		if o.GetKind() == "Deployment" {
			if err := yaml.Unmarshal(document, &d); err != nil {
				t.Fatal(err)
			}
			pod := &corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta, Spec: d.Spec.Template.Spec}
			pod.Namespace, pod.GenerateName = restricted, "controller-"
			try(string(document), pod)
		}
	}
	t.Logf("different objects: %v", kinds)
	for _, kind := range []string{"Certificate", "ClusterRole", "ConfigMap", "Deployment", "Issuer", "MutatingWebhookConfiguration", "NetworkPolicy", "Pod", "PodMonitor", "PrometheusRule", "Secret", "ValidatingAdmissionPolicy", "ValidatingWebhookConfiguration"} {
		if kinds[kind] == 0 {
			t.Errorf("no %s was tried", kind)
		}
	}
}

// helm runs a version of Helm as people have it, in a namespace; make helm builds both into the cache.
func (s *server) helm(t *testing.T, version, namespace string) func(arguments ...string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	built, _ := filepath.Glob(filepath.Join(cache, "drain-agent", "helm-*", version)) // the pattern is ours
	if len(built) == 0 {
		t.Skipf("no %s here: make helm builds it", version)
	}
	dir := t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, s.admin, 0o600); err != nil {
		t.Fatal(err)
	}
	return func(arguments ...string) string {
		t.Helper()
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), built[len(built)-1], append(arguments, "--namespace="+namespace)...) //nolint:gosec // ours
		cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "HELM_CONFIG_HOME="+dir, "HELM_DATA_HOME="+dir, "HELM_CACHE_HOME="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", version, arguments, err, out)
		}
		return string(out)
	}
}

// archives packages the chart as a release does, and one before it.
func archives(t *testing.T) (before, now string) {
	t.Helper()
	pack := func(chart string) string {
		out, err := exec.CommandContext(t.Context(), "go", "run", "-C", "../../scripts/chart", ".", "package", "--chart="+chart, t.TempDir()).Output()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS("../chart")); err != nil {
		t.Fatal(err)
	}
	about := string(readFile(t, folder+"/Chart.yaml"))
	about = strings.Replace(about, "\nversion: 0.1.0", "\nversion: 0.0.9", 1)
	if !strings.Contains(about, "0.0.9") {
		t.Fatal("the chart's version has changed: change this test")
	}
	if err := os.WriteFile(folder+"/Chart.yaml", []byte(about), 0o600); err != nil {
		t.Fatal(err)
	}
	return pack(folder), pack("../../deploy/chart")
}

// From the archive, by both versions of Helm, with the controller at work: nothing that it has written is lost by an upgrade, a rollback or
// other values, no pod is refused meanwhile, and in the end nothing is left.
func TestChartIsInstalledUpgradedAndRemoved(t *testing.T) {
	s := emptyServer(t)
	before, now := archives(t)
	for _, version := range []string{"helm3", "helm4"} {
		t.Run(version, func(t *testing.T) {
			helm := s.helm(t, version, ownNamespace)
			objects := s.objects(t)
			if said := helm("install", "drain-controller", before, "--set=replicas=1,policy.enabled=true"); !strings.Contains(said, "kubectl label namespace NAMESPACE drain-agent.io/inject=enabled") {
				t.Errorf("the notes say\n%s", said)
			}
			run := s.controller(t)
			load := s.load(t, s.namespace(t, labelled, nil))
			eventually(t, "pods get their agent", load.agents)
			written := s.written(t)
			for _, step := range [][]string{
				{"upgrade", "drain-controller", now},
				{"upgrade", "drain-controller", now, "--set=lint.deny=true,webhook.timeoutSeconds=5"},
				{"rollback", "drain-controller", "1"},
				{"upgrade", "drain-controller", now, "--reset-values"},
			} {
				s.route(t, 443)                // as the chart has it: Helm 4 takes nobody's fields away
				run.signal(t, syscall.SIGSTOP) // else it would write again what Helm had taken away
				helm(step...)
				if after := s.written(t); !maps.Equal(after, written) {
					t.Errorf("%q: what the controller wrote, %v, became %v", step, written, after)
				}
				run.signal(t, syscall.SIGCONT)
				s.route(t, run.port)
				eventually(t, "pods get their agent", load.agents)
			}
			s.route(t, 443)
			helm("uninstall", "drain-controller")
			load.stop(t)
			run.stop()
			eventually(t, "nothing is left", func() error {
				if left := slices.DeleteFunc(s.objects(t), func(one string) bool { return slices.Contains(objects, one) }); len(left) > 0 {
					return fmt.Errorf("%q", left)
				}
				return nil
			})
		})
	}
}

// objects are all of the API server, but those that the tests make and that it makes for itself.
func (s *server) objects(t *testing.T) (all []string) {
	t.Helper()
	asked, err := discovery.NewDiscoveryClientForConfig(s.config)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := asked.ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		for _, resource := range list.APIResources {
			if !slices.Contains(resource.Verbs, "list") || slices.Contains([]string{"Event", "Lease", "ComponentStatus"}, resource.Kind) {
				continue
			}
			found := &unstructured.UnstructuredList{}
			group, err := schema.ParseGroupVersion(list.GroupVersion)
			if err != nil {
				t.Fatal(err)
			}
			found.SetGroupVersionKind(group.WithKind(resource.Kind + "List"))
			if err := s.client.List(t.Context(), found); err != nil {
				t.Fatalf("list %s: %v", resource.Kind, err)
			}
			for _, o := range found.Items {
				if !strings.HasPrefix(o.GetNamespace(), "test-") && !strings.HasPrefix(o.GetName(), "test-") {
					all = append(all, o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName())
				}
			}
		}
	}
	return all
}

// written is what the controller has written into objects of the chart.
func (s *server) written(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	var secret corev1.Secret
	if err := s.client.Get(t.Context(), client.ObjectKey{Namespace: ownNamespace, Name: "drain-controller-certificate"}, &secret); err != nil {
		t.Fatal(err)
	}
	for key, value := range secret.Data {
		out[key] = string(value)
	}
	var mutating admissionregistrationv1.MutatingWebhookConfiguration
	var validating admissionregistrationv1.ValidatingWebhookConfiguration
	for _, o := range []client.Object{&mutating, &validating} {
		if err := s.client.Get(t.Context(), client.ObjectKey{Name: "drain-controller"}, o); err != nil {
			t.Fatal(err)
		}
	}
	for _, hook := range mutating.Webhooks {
		out[hook.Name] = string(hook.ClientConfig.CABundle)
	}
	for _, hook := range validating.Webhooks {
		out[hook.Name] = string(hook.ClientConfig.CABundle)
	}
	for name, value := range out {
		if value == "" {
			t.Errorf("%s is empty", name)
		}
	}
	return out
}

// A load makes pods all the time.
type load struct {
	end     context.CancelFunc
	done    sync.WaitGroup
	made    atomic.Int64
	without atomic.Int64 // an agent
	last    atomic.Bool  // the last pod had an agent
	refused error
}

func (s *server) load(t *testing.T, namespace string) *load {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	l := &load{end: end}
	l.done.Go(func() {
		for ; ctx.Err() == nil; l.made.Add(1) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "load-", Namespace: namespace}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "envoy", Image: "envoyproxy/envoy:v1.40.0"}, {Name: "app", Image: "a:1"}}}}
			err := s.client.Create(ctx, pod)
			if err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "webhook") {
				l.refused = err // an API server that just starts refuses pods for reasons of its own
			}
			if l.last.Store(agentOf(pod) != nil); err == nil && !l.last.Load() {
				l.without.Add(1)
			}
			wait(ctx, 20*time.Millisecond)
		}
	})
	t.Cleanup(end)
	return l
}

func (l *load) agents() error {
	if !l.last.Load() {
		return errNotYet
	}
	return nil
}

// stop fails the test when any pod was refused.
func (l *load) stop(t *testing.T) {
	t.Helper()
	l.end()
	l.done.Wait()
	if l.refused != nil {
		t.Errorf("a pod was refused: %v", l.refused)
	}
	t.Logf("%d pods were made meanwhile", l.made.Load())
}

// What Flux and Argo CD ask to find drift, and kubectl asks alike: whether an apply, by the server's fields or by the three-way merge,
// would change anything. It would not, after the controller has written what it writes.
func TestAppliedChartShowsNoDrift(t *testing.T) {
	s := emptyServer(t)
	file := filepath.Join(t.TempDir(), "install.yaml")
	if err := os.WriteFile(file, readFile(t, "../drainctl/install.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"--server-side=true", "--server-side=false"} {
		t.Run(how, func(t *testing.T) {
			s.kubectl(t, "apply", how, "-f", file)
			run := s.controller(t)
			eventually(t, "the authority is written", func() error { return s.trusted(t) })
			s.route(t, 443)                // as the chart has it
			run.signal(t, syscall.SIGSTOP) // else it would write again what an apply had taken away
			written := s.written(t)
			if out := s.kubectl(t, "diff", how, "-f", file); out != "" {
				t.Errorf("drift:\n%s", out)
			}
			s.kubectl(t, "apply", how, "-f", file)
			if after := s.written(t); !maps.Equal(after, written) {
				t.Errorf("what the controller wrote, %v, became %v", written, after)
			}
			run.signal(t, syscall.SIGCONT)
			run.stop()
			s.kubectl(t, "delete", "-f", file)
		})
	}
}

// trusted says whether the API server has been given an authority for all webhooks.
func (s *server) trusted(t *testing.T) error {
	t.Helper()
	var one admissionregistrationv1.MutatingWebhookConfiguration
	var two admissionregistrationv1.ValidatingWebhookConfiguration
	for _, o := range []client.Object{&one, &two} {
		if err := s.client.Get(t.Context(), client.ObjectKey{Name: "drain-controller"}, o); err != nil {
			return err
		}
	}
	for _, hook := range one.Webhooks {
		if len(hook.ClientConfig.CABundle) == 0 {
			return errNotYet
		}
	}
	for _, hook := range two.Webhooks {
		if len(hook.ClientConfig.CABundle) == 0 {
			return errNotYet
		}
	}
	return nil
}

func (s *server) kubectl(t *testing.T, arguments ...string) string {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, s.admin, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(apiserver.Programs(t), "kubectl"), arguments...) //nolint:gosec // ours
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	out, err := cmd.CombinedOutput()
	if err != nil && arguments[0] != "diff" {
		t.Fatalf("kubectl %q: %v\n%s", arguments, err, out)
	}
	return string(out)
}
