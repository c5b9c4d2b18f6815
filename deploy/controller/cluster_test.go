package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/scripts/apiserver"
	"github.com/drain-agent/drain-agent/scripts/cgroup"
	"github.com/drain-agent/drain-agent/scripts/freeport"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

const (
	ownNamespace = "drain-system"
	agentImage   = "registry.example/drain-agent:1"
)

// A server is a real etcd and API server.
type server struct {
	env      *envtest.Environment
	config   *rest.Config
	admin    []byte        // kubeconfig
	own      []byte        // kubeconfig of the controller's ServiceAccount
	program  string        // of the controller; "": that of the test
	group    *cgroup.Group // that it runs in, if any
	client   client.Client
	warnings *warnings // of all requests
}

// Those that tests share: one with what drainctl install prints, one where tests install and leave nothing.
var installed, empty sharedServer

type sharedServer struct {
	once sync.Once
	*server
	err error
}

func TestMain(m *testing.M) {
	pod.Helper()
	if os.Getenv("DRAIN_CONTROLLER_MAIN") != "" {
		main()
		return
	}
	logf.SetLogger(logr.Discard())
	code := m.Run()
	for _, one := range []*server{installed.server, empty.server} {
		if one == nil {
			continue
		}
		if err := one.env.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the API server:", err)
		}
		_ = os.RemoveAll(one.env.ControlPlane.GetAPIServer().CertDir) // only temporary
	}
	os.Exit(code)
}

// apiServer starts it once for all tests, and skips where there are no programs for it: scripts/cluster/cluster build compiles them.
func apiServer(t testing.TB) *server {
	t.Helper()
	return installed.get(t, func(s *server) error {
		text, err := os.ReadFile("../drainctl/install.yaml")
		if err != nil {
			return err
		}
		return s.apply(text)
	})
}

// emptyServer is another.
func emptyServer(t testing.TB) *server {
	t.Helper()
	return empty.get(t, func(*server) error { return nil })
}

func (one *sharedServer) get(t testing.TB, prepare func(*server) error) *server {
	t.Helper()
	programs := apiserver.Programs(t)
	one.once.Do(func() {
		env := &envtest.Environment{BinaryAssetsDirectory: programs, ControlPlaneStartTimeout: 3 * time.Minute, ControlPlaneStopTimeout: time.Minute}
		api := env.ControlPlane.GetAPIServer()
		if api.CertDir, one.err = os.MkdirTemp("", "drain-controller-test-"); one.err != nil { //nolint:usetesting // it outlives the first test, and a restart
			return
		}
		policy := filepath.Join(api.CertDir, "audit.yaml")
		if one.err = os.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, verbs: [create], resources: [{resources: [pods]}]}, {level: None}]\n"), 0o600); one.err != nil {
			return
		}
		api.Configure().Set("audit-policy-file", policy).Set("audit-log-path", filepath.Join(api.CertDir, "audit.log"))
		if one.server, one.err = start(env); one.err == nil {
			one.err = prepare(one.server)
		}
	})
	if one.err != nil {
		t.Fatal(one.err)
	}
	return one.server
}

func start(env *envtest.Environment) (*server, error) {
	config, err := env.Start()
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	s := &server{env: env, config: config, admin: env.KubeConfig, warnings: &warnings{}}
	config.WarningHandler = s.warnings
	if s.client, err = client.New(config, client.Options{Scheme: scheme.Scheme}); err != nil {
		return nil, err
	}
	if err := s.client.Create(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ownNamespace}}); err != nil {
		return nil, err
	}
	own, err := env.AddUser(envtest.User{Name: "system:serviceaccount:" + ownNamespace + ":drain-controller", Groups: []string{"system:serviceaccounts"}}, config)
	if err != nil {
		return nil, err
	}
	s.own, err = own.KubeConfig()
	return s, err
}

// audited are the annotations of the API server's audit log for a pod that was made.
func (s *server) audited(t testing.TB, pod *corev1.Pod) map[string]string {
	t.Helper()
	for line := range bytes.Lines(readFile(t, filepath.Join(s.env.ControlPlane.GetAPIServer().CertDir, "audit.log"))) {
		var event struct {
			ObjectRef   struct{ Namespace, Name string }
			Annotations map[string]string
		}
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatal(err)
		}
		if event.ObjectRef.Namespace == pod.Namespace && event.ObjectRef.Name == pod.Name {
			return event.Annotations
		}
	}
	t.Fatalf("nothing of pod %s in the audit log", pod.Name)
	return nil
}

// apply creates objects; those that exist are replaced.
func (s *server) apply(text []byte) error {
	for document := range bytes.SplitSeq(text, []byte("---\n")) {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &o.Object); err != nil || o.Object == nil {
			if err != nil {
				return err
			}
			continue
		}
		if err := s.client.Create(context.Background(), o, client.FieldValidation("Strict")); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

// remove deletes what apply has created.
func (s *server) remove(t testing.TB, text []byte) {
	t.Helper()
	for document := range bytes.SplitSeq(text, []byte("---\n")) {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &o.Object); err != nil || o.Object == nil {
			continue
		}
		if err := s.client.Delete(context.Background(), o); err != nil {
			t.Errorf("delete %s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
}

// namespace makes one with these labels or annotations (those of the second map).
func (s *server) namespace(t testing.TB, labels, annotations map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels, Annotations: annotations}}
	if err := s.client.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// route leads the API server's calls of the Service to a port of this machine; the name in the certificate stays the Service's.
func (s *server) route(t testing.TB, port int) {
	t.Helper()
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ownNamespace, Name: "drain-controller"}}
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec": {"type": "ExternalName", "externalName": "localhost", "clusterIP": null, "clusterIPs": null}}`))
	if err := s.client.Patch(t.Context(), service, patch); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"} {
		eventually(t, kind+" leads to the port", func() error {
			o := &unstructured.Unstructured{}
			o.SetAPIVersion("admissionregistration.k8s.io/v1")
			o.SetKind(kind)
			if err := s.client.Get(t.Context(), client.ObjectKey{Name: "drain-controller"}, o); err != nil {
				return err
			}
			hooks, _, err := unstructured.NestedSlice(o.Object, "webhooks")
			if err != nil {
				return err
			}
			for _, hook := range hooks {
				if err := unstructured.SetNestedField(hook.(map[string]any), int64(port), "clientConfig", "service", "port"); err != nil {
					return err
				}
			}
			if err := unstructured.SetNestedSlice(o.Object, hooks, "webhooks"); err != nil {
				return err
			}
			return s.client.Update(t.Context(), o)
		})
	}
}

// eventually waits until something holds, for minutes if need be.
func eventually(t testing.TB, what string, holds func() error) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for err := holds(); err != nil; err = holds() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting until %s: %v", what, err)
		}
		wait(t.Context(), 100*time.Millisecond)
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	ports, err := freeport.Find(1)
	if err != nil {
		t.Fatal(err)
	}
	return ports[0]
}

// warnings are those that the API server sent since they were last taken.
type warnings struct {
	mu   sync.Mutex
	said []string
}

func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, text)
}

func (w *warnings) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.said
	w.said = nil
	return strings.Join(said, "\n")
}
