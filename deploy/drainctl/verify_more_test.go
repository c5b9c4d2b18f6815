package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/verify"
)

func checks(r verify.Report, severity string) (all []string) {
	for _, f := range r.Findings {
		if f.Severity == severity {
			all = append(all, f.Check)
		}
	}
	return all
}

// What forbids a rollout is said before anything is changed.
func TestVerifyDoesNotBegin(t *testing.T) {
	one, none := int32(1), intstr.FromInt32(0)
	for name, row := range map[string]struct {
		change func(*appsv1.Deployment)
		after  func(*stage) // what stands beside
		want   string
	}{
		"paused":     {func(d *appsv1.Deployment) { d.Spec.Paused = true }, nil, "paused"},
		"no agent":   {func(d *appsv1.Deployment) { d.Spec.Template.Spec.InitContainers = nil }, nil, "no-agent"},
		"no replica": {func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32) }, nil, "no-pods"},
		"no surge": {func(d *appsv1.Deployment) {
			d.Spec.Replicas, d.Spec.Strategy.RollingUpdate.MaxSurge, d.Spec.Strategy.RollingUpdate.MaxUnavailable = &one, &none, nil
		}, nil, "no-surge"},
		"recreate":  {func(d *appsv1.Deployment) { d.Spec.Strategy = appsv1.DeploymentStrategy{Type: "Recreate"} }, nil, "no-surge"},
		"not ready": {nil, func(s *stage) { s.pod("other", false) }, "not-settled"},
		"a budget": {func(d *appsv1.Deployment) {
			d.Spec.Strategy.RollingUpdate.MaxSurge, d.Spec.Strategy.RollingUpdate.MaxUnavailable = &none, nil
		}, func(s *stage) { s.budget() }, "budget-forbids"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, row.change)
			if row.after != nil {
				row.after(s)
			}
			code, r, text, said := s.verified(nil)
			if got := strings.Join(checks(r, verify.Error), " "); code != exitFindings || got != row.want || r.Rolled {
				t.Errorf("exit code %d, errors %q, want %q\n%s%s", code, got, row.want, text, said)
			}
			var d appsv1.Deployment
			if err := shared.client.Get(t.Context(), client.ObjectKeyFromObject(s.deployment), &d); err != nil || len(d.Spec.Template.Annotations) > 0 {
				t.Errorf("the Deployment was changed: %v %v", d.Spec.Template.Annotations, err)
			}
		})
	}
}

func (s *stage) budget() {
	all := intstr.FromString("100%")
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "all"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &all, Selector: s.deployment.Spec.Selector},
	}
	s.create(b)
}

// What is only good to know does not forbid it; --anyway lifts what hurts nobody but the workload.
func TestVerifyGoesOn(t *testing.T) {
	good := behaviour{message: last("clean", nil)}
	for name, row := range map[string]struct {
		change func(*appsv1.Deployment)
		after  func(*stage)
		args   []string
		want   []string // warnings and notes
	}{
		"a gap, accepted":                {func(d *appsv1.Deployment) { d.Spec.Strategy = appsv1.DeploymentStrategy{Type: "Recreate"} }, nil, []string{"--anyway"}, []string{"no-surge"}},
		"a budget that a surge respects": {nil, func(s *stage) { s.budget() }, nil, []string{"budget-forbids"}},
		"an autoscaler": {nil, func(s *stage) {
			s.create(&autoscalingv2.HorizontalPodAutoscaler{
				ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "web"},
				Spec:       autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 5, ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "web", APIVersion: "apps/v1"}},
			})
		}, nil, []string{"autoscaler"}},
		"observe mode": {func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.InitContainers[0].Env = []corev1.EnvVar{{Name: "DRAIN_AGENT_MODE", Value: "observe"}}
		}, nil, nil, []string{"observe-mode"}},
		"a Service of peers": {nil, func(s *stage) {
			s.create(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "peers"}, Spec: corev1.ServiceSpec{
				ClusterIP: "None", PublishNotReadyAddresses: true, Selector: s.deployment.Spec.Selector.MatchLabels, Ports: []corev1.ServicePort{{Port: 80}},
			}})
		}, nil, []string{"endpoints-open"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, row.change)
			if row.after != nil {
				row.after(s)
			}
			code, r, text, said := s.verified(func(ctx context.Context) { s.play(ctx, good) }, row.args...)
			if got := slices.Concat(checks(r, verify.Warning), checks(r, verify.Note)); code != exitOK || !slices.Equal(got, row.want) {
				t.Errorf("exit code %d, %v, want %v\n%s%s", code, got, row.want, text, said)
			}
		})
	}
}

// Requests that fail while pods go are counted, on new and on kept connections, with the pods that were going.
func TestVerifyLoad(t *testing.T) {
	for name, row := range map[string]struct {
		drop func(w http.ResponseWriter) // once pods go
		want string
	}{
		"nothing is lost": {func(http.ResponseWriter) {}, ""},
		"dropped":         {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, "closed before the answer"},
		"503":             {func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, "status 503"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, nil)
			var going, during atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Key") != "a secret" || r.Host != "shop.example" {
					w.WriteHeader(http.StatusTeapot)
				}
				if going.Load() > 0 {
					during.Add(1)
					row.drop(w)
				}
			}))
			defer server.Close()
			code, r, text, said := s.verified(func(ctx context.Context) {
				if !s.restarted(ctx) {
					return
				}
				going.Store(1)
				eventually(s.T, func() bool { return during.Load() >= 6 })
				s.play(ctx, behaviour{message: last("clean", nil)})
			}, "--url="+strings.Replace(server.URL, "http://", "http://user:password@", 1)+"/hooks/password?password", "--rate=50", "-H", "X-Key: a secret", "-H", "Host: shop.example")
			failed := slices.DeleteFunc(checks(r, verify.Error), func(check string) bool { return check == "load-narrow" }) // this machine may be busy
			if row.want == "" {
				if len(failed) > 0 || r.Load == nil || r.Load.Failed > 0 || r.Load.Sent < 6 || r.Load.Status != http.StatusOK {
					t.Errorf("exit code %d, %+v\n%s%s", code, r.Load, text, said)
				}
			} else if code != exitFindings || !slices.Equal(failed, []string{"lost-requests"}) || r.Load.ByKind[row.want] < 6 {
				t.Errorf("exit code %d, %+v\n%s%s", code, r.Load, text, said)
			}
			if strings.Contains(text+said+fmt.Sprintf("%+v", r), "secret") || strings.Contains(text+said+fmt.Sprintf("%+v", r.Load), "password") {
				t.Errorf("a secret is shown:\n%s%s", text, said)
			}
		})
	}
	t.Run("nobody answers before", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, nil)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
		defer server.Close()
		if code, _, _, said := s.verified(nil, "--url="+server.URL); code != exitUsage || !strings.Contains(said, "is not answered before the rollout: status 502") {
			t.Errorf("%d %s", code, said)
		}
	})
}

// Ctrl-C ends the watching and says what is still there.
func TestVerifyInterrupted(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	ctx, interrupt := context.WithCancel(t.Context())
	s.interrupt = ctx
	code, r, text, said := s.verified(func(ctx context.Context) {
		if s.restarted(ctx) {
			s.goes(s.old[0], behaviour{message: last("clean", nil)})
			interrupt()
		}
	})
	if code != exitUnfinished || r.Result != verify.Unfinished || !slices.Contains(r.Rolling, s.old[1].Name) || !strings.Contains(text, "kubectl -n "+s.namespace+" rollout undo deployment/web") {
		t.Errorf("exit code %d, still rolling %v\n%s%s", code, r.Rolling, text, said)
	}
}

// New pods that do not become ready end the wait with what holds them up.
func TestVerifyNewPodsNeverReady(t *testing.T) {
	for name, row := range map[string]struct {
		args   []string
		gaveUp bool // the Deployment itself says so
	}{
		"the time is over":           {[]string{"--timeout=1s"}, false},
		"the Deployment gives it up": {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, nil)
			code, r, text, said := s.verified(func(ctx context.Context) {
				if !s.restarted(ctx) {
					return
				}
				s.pod("new", false)
				if row.gaveUp {
					d := s.deployment.DeepCopy()
					s.must(shared.client.Get(s.background(), client.ObjectKeyFromObject(d), d))
					d.Status.Conditions = []appsv1.DeploymentCondition{{Type: "Progressing", Status: "False", Reason: "ProgressDeadlineExceeded", Message: "it has timed out progressing"}}
					s.must(shared.client.Status().Update(s.background(), d))
				}
			}, row.args...)
			got, want := checks(r, verify.Error), []string{"unfinished", "not-ready", "stalled"}
			if !row.gaveUp { // the new pod may not have been seen in this time
				got, want = got[:min(1, len(got))], want[:1]
			}
			if code != exitFindings || !slices.Equal(got, want) || row.gaveUp && !strings.Contains(text, "container drain-agent: ImagePullBackOff: no such image") || len(r.Rolling) != 2 {
				t.Errorf("exit code %d, %v, want %v\n%s%s", code, got, want, text, said)
			}
		})
	}
}

// Every permission that is missing is named, before anything is done; the role that the page has is enough.
func TestVerifyPermissions(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	var config map[string]any
	if err := yaml.Unmarshal(shared.admin, &config); err != nil {
		t.Fatal(err)
	}
	config["users"].([]any)[0].(map[string]any)["user"].(map[string]any)["as"] = "somebody"
	text, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.kubeconfig, text, 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, _, said := s.verified(nil)
	for _, want := range []string{"get deployments.apps", "patch deployments.apps", "list pods", "watch pods", "list endpointslices.discovery.k8s.io", "watch endpointslices.discovery.k8s.io", "list events", "list services", "list poddisruptionbudgets.policy", "list horizontalpodautoscalers.autoscaling"} {
		if code != exitUsage || strings.Count(said, "may not "+want+" in namespace "+s.namespace) != 1 {
			t.Errorf("exit code %d, %s is not named once\n%s", code, want, said)
		}
	}
	_, page, _ := strings.Cut(readText(t, "../../docs/how-to/verify-a-rollout.md"), "```yaml\n")
	page, _, _ = strings.Cut(page, "```")
	role := &rbacv1.Role{}
	if err := yaml.UnmarshalStrict([]byte(page), role); err != nil {
		t.Fatal(err)
	}
	role.Namespace = s.namespace
	s.create(role)
	s.create(&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "somebody"}, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: role.Name, APIGroup: "rbac.authorization.k8s.io"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "somebody", APIGroup: "rbac.authorization.k8s.io"}}})
	eventually(t, func() bool { // authorizers hear of a role a moment later
		code, _, _, said = s.verified(nil, "--read-only")
		return !strings.Contains(said, "may not")
	})
	if code, r, text, said := s.verified(func(ctx context.Context) { s.play(ctx, behaviour{message: last("clean", nil)}) }); code != exitOK {
		t.Errorf("with the role of the page: %d %v\n%s%s", code, r.Findings, text, said)
	}
}

// Looking changes nothing, and finds what is wrong with the objects, the events and the agents.
func TestVerifyReadOnly(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.InitContainers[0].Args = []string{"run", "--grace-period=10s"} // the pod has 60 s
	})
	s.create(&corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "earlier"}, Reason: "FailedPreStopHook", Message: "PreStopHook failed",
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: s.namespace, Name: "web-66b4f5d7c8-x2x2x"},
	})
	s.create(&corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "another"}, Reason: "FailedPreStopHook", Message: "PreStopHook failed",
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: s.namespace, Name: "web-canary-66b4f5d7c8-x2x2x"},
	})
	p := s.old[0]
	p.Status.InitContainerStatuses[0].RestartCount = 1
	p.Status.InitContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 5, Reason: "Error", Message: last("watchdog", nil)}
	if err := shared.client.Status().Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	code, r, text, said := s.verified(nil, "--read-only")
	errors, warnings := checks(r, verify.Error), checks(r, verify.Warning)
	for _, want := range []string{"lint/grace-mismatch", "hook-failed"} {
		if !slices.Contains(errors, want) {
			t.Errorf("no error %s", want)
		}
	}
	for _, want := range []string{"agent-restarted", "status-unknown"} { // nobody answers on the pods' addresses here
		if !slices.Contains(warnings, want) {
			t.Errorf("no warning %s", want)
		}
	}
	if code != exitFindings || r.Rolled || len(r.Agents) != 2 || r.Agents[0].Last == nil || r.Agents[0].Last.Outcome != "watchdog" || strings.Contains(text, "web-canary") || t.Failed() {
		t.Errorf("exit code %d\n%s%s", code, text, said)
	}
}

func TestVerifyFlags(t *testing.T) {
	for _, args := range [][]string{{}, {"web"}, {"job/web"}, {"deploy/"}, {"deploy/web", "-o", "xml"}, {"deploy/web", "--timeout=0s"}, {"deploy/web", "--kubeconfig=nowhere"}, {"deploy/web", "-H", "no colon"}} {
		if code, _, said := drainctl(t, "", append([]string{"verify"}, args...)...); code != exitUsage || !strings.HasPrefix(said, "drainctl: ") {
			t.Errorf("%v: %d %s", args, code, said)
		}
	}
	if code, _, said := drainctl(t, "", "verify", "web", "-o", "xml", "--timeout=-1s", "--kubeconfig=nowhere", "-H", "x"); code != exitUsage || strings.Count(said, "\n") < 4 {
		t.Errorf("not everything is said at once: %d\n%s", code, said)
	}
}

// The other kinds are told to replace their pods in the same way, Argo's by its own field.
func TestVerifyKinds(t *testing.T) {
	for kind, row := range map[string]struct{ text, without string }{
		"StatefulSet": {"apiVersion: apps/v1\nspec: {serviceName: web, updateStrategy: {rollingUpdate: {partition: 1}}}", "web-0"}, // keeps the first
		"DaemonSet":   {"apiVersion: apps/v1\nspec: {}\nstatus: {desiredNumberScheduled: 2}", ""},
		"Rollout":     {"apiVersion: argoproj.io/v1alpha1\nspec: {}", ""},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32) })
			o := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(row.text), &o.Object); err != nil {
				t.Fatal(err)
			}
			template, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&s.deployment.Spec)
			if err != nil {
				t.Fatal(err)
			}
			spec := o.Object["spec"].(map[string]any)
			for _, field := range []string{"selector", "template"} {
				spec[field] = template[field]
			}
			if kind != "DaemonSet" {
				spec["replicas"] = int64(2)
			}
			o.SetKind(kind)
			o.SetName("web")
			o.SetNamespace(s.namespace)
			status := o.Object["status"]
			s.create(o)
			if status != nil {
				o.Object["status"] = map[string]any{"desiredNumberScheduled": int64(2), "currentNumberScheduled": int64(2), "numberReady": int64(2), "numberMisscheduled": int64(0)}
				if err := shared.client.Status().Update(t.Context(), o); err != nil {
					t.Fatal(err)
				}
			}
			s.object = o
			all := []*corev1.Pod{s.pod("old", true), s.pod("old", true)}
			for _, p := range all {
				if p.Name != row.without {
					s.old = append(s.old, p)
				}
			}
			s.made = len(all) - len(s.old)
			code, r, text, said := s.verified(func(ctx context.Context) { s.play(ctx, behaviour{message: last("clean", nil)}) })
			if code != exitOK || len(r.Stops) != len(s.old) {
				t.Errorf("exit code %d, %d stops, want %d\n%s%s", code, len(r.Stops), len(s.old), text, said)
			}
		})
	}
	t.Run("a Rollout that is not there", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, nil)
		s.object = &unstructured.Unstructured{Object: map[string]any{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}}
		if code, _, _, said := s.verified(nil); code != exitUsage || !strings.Contains(said, "rollout/web is not in namespace") {
			t.Errorf("%d %s", code, said)
		}
	})
}
