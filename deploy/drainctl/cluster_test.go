package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/scripts/apiserver"
)

// shared is a real etcd and API server for all tests. Nobody else is there: no controller, no kubelet.
var shared struct {
	once   sync.Once
	env    *envtest.Environment
	config *rest.Config
	client client.Client
	admin  []byte // kubeconfig
	err    error
}

func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard())
	code := m.Run()
	if shared.env != nil {
		if err := shared.env.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the API server:", err)
		}
	}
	os.Exit(code)
}

func startServer(t *testing.T) {
	t.Helper()
	programs := apiserver.Programs(t)
	shared.once.Do(func() {
		shared.env = &envtest.Environment{BinaryAssetsDirectory: programs, ControlPlaneStartTimeout: 3 * time.Minute, ControlPlaneStopTimeout: time.Minute}
		var rollouts apiextensionsv1.CustomResourceDefinition
		if shared.err = yaml.UnmarshalStrict([]byte(argo), &rollouts); shared.err != nil {
			return
		}
		shared.env.CRDs = []*apiextensionsv1.CustomResourceDefinition{&rollouts}
		if shared.config, shared.err = shared.env.Start(); shared.err != nil {
			return
		}
		shared.config.QPS = -1
		if shared.client, shared.err = client.New(shared.config, client.Options{Scheme: scheme.Scheme}); shared.err != nil {
			return
		}
		var admin *envtest.AuthenticatedUser
		if admin, shared.err = shared.env.AddUser(envtest.User{Name: "admin", Groups: []string{"system:masters"}}, shared.config); shared.err != nil {
			return
		}
		shared.admin, shared.err = admin.KubeConfig()
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
}

// stage is a namespace with a workload web whose pods are played by the test.
type stage struct {
	*testing.T
	namespace, kubeconfig string
	deployment            *appsv1.Deployment
	old                   []*corev1.Pod
	made                  int
	object                client.Object   // what is verified, where it is not the Deployment
	interrupt             context.Context // ends as Ctrl-C does; nil: never
}

// newStage makes a Deployment of two ready pods, in the endpoints of a Service; change alters it before.
func newStage(t *testing.T, change func(*appsv1.Deployment)) *stage {
	t.Helper()
	startServer(t)
	s := &stage{T: t, kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	if err := os.WriteFile(s.kubeconfig, shared.admin, 0o600); err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "verify-"}}
	s.create(ns)
	s.namespace = ns.Name
	s.deployment = &appsv1.Deployment{}
	if err := yaml.UnmarshalStrict([]byte(web), s.deployment); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(s.deployment)
	}
	s.deployment.Namespace = s.namespace
	s.create(s.deployment)
	s.create(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "web"}, Spec: corev1.ServiceSpec{Selector: s.deployment.Spec.Selector.MatchLabels, Ports: []corev1.ServicePort{{Port: 80}}}})
	s.create(&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}, AddressType: discoveryv1.AddressTypeIPv4})
	for range *s.deployment.Spec.Replicas {
		s.old = append(s.old, s.pod("old", true))
	}
	return s
}

const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 60
      initContainers:
      - {name: drain-agent, image: "registry.example/drain-agent:1", restartPolicy: Always, args: [run, --grace-period=60s]}
      - {name: envoy, image: "envoyproxy/envoy:v1.40.0", restartPolicy: Always}
      containers:
      - {name: app, image: "registry.example/web:1"}
`

// argo is as much of the definition of Argo's Rollout as verify needs.
const argo = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: rollouts.argoproj.io}
spec:
  group: argoproj.io
  scope: Namespaced
  names: {kind: Rollout, plural: rollouts, singular: rollout}
  versions:
  - {name: v1alpha1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`

func (s *stage) create(o client.Object) {
	s.Helper()
	if err := shared.client.Create(s.Context(), o); err != nil {
		s.Fatal(err)
	}
}

// background outlives the test's context: what plays the cluster must be able to clean up.
func (s *stage) background() context.Context { return context.WithoutCancel(s.Context()) }

// pod makes one as a ReplicaSet would, on a node as kubelet would. Ready pods are in the endpoints.
func (s *stage) pod(hash string, ready bool) *corev1.Pod {
	s.made++
	yes, name := true, fmt.Sprintf("web-%s-%05d", hash, s.made)
	owner := metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-" + hash, UID: "1", Controller: &yes}
	if kind := s.kind(); kind == "StatefulSet" || kind == "DaemonSet" {
		owner.Kind, owner.Name = kind, "web"
	}
	if s.kind() == "StatefulSet" {
		name = fmt.Sprintf("web-%d", (s.made-1)%2)
	}
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.namespace, Name: name, Labels: map[string]string{"app": "web", "pod-template-hash": hash, "rollouts-pod-template-hash": hash},
			OwnerReferences: []metav1.OwnerReference{owner},
		},
		Spec: *s.deployment.Spec.Template.Spec.DeepCopy(),
	}
	p.Spec.NodeName = "node"
	if err := shared.client.Create(s.background(), p); err != nil {
		s.Error(err)
		return p
	}
	p.Status.Phase = corev1.PodRunning
	state := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if !ready {
		p.Status.Conditions[0].Status = corev1.ConditionFalse
		state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"}}
	}
	status := func(list []corev1.Container) (all []corev1.ContainerStatus) {
		for _, c := range list {
			all = append(all, corev1.ContainerStatus{Name: c.Name, Ready: ready, State: state, Image: c.Image})
		}
		return all
	}
	p.Status.InitContainerStatuses, p.Status.ContainerStatuses = status(p.Spec.InitContainers), status(p.Spec.Containers)
	s.must(shared.client.Status().Update(s.background(), p))
	if ready {
		s.endpoint(p, true)
	}
	return p
}

// eventually waits for a condition, for minutes if need be.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			t.Error("gave up waiting")
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
			return
		}
	}
}

// must is for the goroutine that plays the cluster, which may not end the test.
func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Error(err)
	}
}

// endpoint puts a pod into the EndpointSlice, or takes it out as one that terminates.
func (s *stage) endpoint(p *corev1.Pod, ready bool) {
	var slice discoveryv1.EndpointSlice
	s.must(shared.client.Get(s.background(), client.ObjectKey{Namespace: s.namespace, Name: "web-1"}, &slice))
	var kept []discoveryv1.Endpoint
	for _, e := range slice.Endpoints {
		if e.TargetRef.UID != p.UID {
			kept = append(kept, e)
		}
	}
	slice.Endpoints = append(kept, discoveryv1.Endpoint{
		Addresses: []string{fmt.Sprintf("10.0.0.%d", len(kept)+1)}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: p.Name, Namespace: p.Namespace, UID: p.UID},
	})
	s.must(shared.client.Update(s.background(), &slice))
}

// behaviour is how one old pod goes.
type behaviour struct {
	message   string // the agent's termination message
	exit      int32  // of the agent
	killed    bool   // the app did not end in time
	hookFails bool   // kubelet cannot call the app's hook
	vanishes  bool   // without a last status
	stays     bool   // in the endpoints, until it is gone
}

// kind is that of the workload.
func (s *stage) kind() string {
	if s.object == nil {
		return "Deployment"
	}
	return s.object.GetObjectKind().GroupVersionKind().Kind
}

// restarted waits until somebody has told the workload to replace its pods; false when the test ended before.
func (s *stage) restarted(ctx context.Context) bool {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("Deployment"))
	if s.object != nil {
		o.SetGroupVersionKind(s.object.GetObjectKind().GroupVersionKind())
	}
	for ctx.Err() == nil {
		if shared.client.Get(ctx, client.ObjectKeyFromObject(s.deployment), o) == nil {
			at, _, _ := unstructured.NestedString(o.Object, "spec", "template", "metadata", "annotations", "kubectl.kubernetes.io/restartedAt")
			argo, _, _ := unstructured.NestedString(o.Object, "spec", "restartAt")
			if at+argo != "" {
				return true
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return false
}

// play replaces the old pods one by one once the workload is told to; all of them go like this.
func (s *stage) play(ctx context.Context, b behaviour) {
	if !s.restarted(ctx) {
		return
	}
	for _, p := range s.old {
		if s.kind() == "Deployment" { // it surges
			s.pod("new", true)
		}
		s.goes(p, b)
		if s.kind() != "Deployment" {
			s.pod("new", true)
		}
	}
}

func (s *stage) goes(p *corev1.Pod, b behaviour) {
	ctx := s.background()
	s.must(shared.client.Delete(ctx, p))
	if !b.stays {
		s.endpoint(p, false)
	}
	if b.hookFails {
		s.must(shared.client.Create(ctx, &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: p.Name + ".1"}, Reason: "FailedPreStopHook", Message: "PreStopHook failed", Type: "Warning",
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: s.namespace, Name: p.Name, UID: p.UID, FieldPath: "spec.containers{app}"},
		}))
	}
	if !b.vanishes {
		s.must(shared.client.Get(ctx, client.ObjectKeyFromObject(p), p))
		for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
			for i := range list {
				list[i].Ready = false
				end := &corev1.ContainerStateTerminated{Reason: "Completed"}
				if list[i].Name == "drain-agent" {
					end.Message, end.ExitCode = b.message, b.exit
				}
				if list[i].Name == "app" && b.killed {
					end.ExitCode, end.Reason = 137, "Error"
				}
				list[i].State = corev1.ContainerState{Terminated: end}
			}
		}
		s.must(shared.client.Status().Update(ctx, p))
	}
	s.must(shared.client.Delete(ctx, p, client.GracePeriodSeconds(0)))
	if b.stays {
		s.endpoint(p, false)
	}
}
