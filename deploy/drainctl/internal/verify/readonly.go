package verify

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/lint"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// Agent is what one running agent says of itself.
type Agent struct {
	Pod   string            `json:"pod"`
	Phase string            `json:"phase"` // "": unknown
	Proxy *int64            `json:"proxy_in_flight"`
	App   *int64            `json:"app_in_flight"`
	Last  *timeline.Verdict `json:"last_verdict"` // of a container that ended in this pod
}

// look judges without a rollout.
func (c *Cluster) look(ctx context.Context, r *Report, w *workload, pods []corev1.Pod, events []corev1.Event) error {
	allowed, err := c.may(ctx, w.Namespace, "get", right{"get", "", "pods/proxy"})
	if err != nil {
		return fmt.Errorf("ask what this user may do: %w", err)
	}
	if !allowed {
		r.add(Finding{Note, "status-unknown", "", "this user may not get pods/proxy in namespace " + w.Namespace + ": what the agents say of themselves is unknown", "allow it, or ask each: kubectl exec POD -c drain-agent -- /drain-agent status"})
	}
	for _, p := range pods {
		agent := agentOf(&p.Spec)
		if agent == nil || p.DeletionTimestamp != nil {
			continue
		}
		a := Agent{Pod: p.Name}
		for _, s := range statuses(&p) {
			if s.Name == inject.AgentContainer && s.LastTerminationState.Terminated != nil {
				a.Last = decodeVerdict(s.LastTerminationState.Terminated.Message)
				r.add(Finding{Warning, "agent-restarted", p.Name, fmt.Sprintf("its agent was restarted %d times, last with exit code %d (%s)", s.RestartCount, s.LastTerminationState.Terminated.ExitCode, s.LastTerminationState.Terminated.Reason), "read its log: kubectl logs --previous -c " + inject.AgentContainer + " " + p.Name})
			}
		}
		if allowed {
			r.add(c.status(ctx, &p, agent, &a)...)
		}
		r.Agents = append(r.Agents, a)
	}
	r.add(recent(w, events)...)
	return nil
}

// status asks an agent through the API server.
func (c *Cluster) status(ctx context.Context, p *corev1.Pod, agent *corev1.Container, a *Agent) []Finding {
	port := cmp.Or(setting(agent, "port"), fmt.Sprint(inject.Port))
	text, err := c.raw(ctx, fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:%s/proxy/status", p.Namespace, p.Name, port))
	if err != nil {
		return []Finding{{Warning, "status-unknown", p.Name, "its agent cannot be asked through the API server: " + err.Error(), "kubectl exec " + p.Name + " -c " + inject.AgentContainer + " -- /drain-agent status"}}
	}
	type side struct {
		InFlight *int64 `json:"in_flight"`
		Known    bool   `json:"known"`
	}
	var s struct {
		Phase      string `json:"phase"`
		Proxy, App side
	}
	if json.Unmarshal(text, &s) != nil || s.Phase == "" {
		return []Finding{{Error, "status-unknown", p.Name, "what answers on port " + port + " is no drain-agent", "look at who listens there"}}
	}
	a.Phase = s.Phase
	var found []Finding
	if s.Phase != "serving" {
		found = append(found, Finding{Warning, "not-serving", p.Name, "its agent is in phase " + s.Phase, "kubectl exec " + p.Name + " -c " + inject.AgentContainer + " -- /drain-agent status says why"})
	}
	if s.Proxy.Known {
		a.Proxy = s.Proxy.InFlight
	} else if setting(agent, "proxy") != "none" {
		found = append(found, Finding{Error, "proxy-unknown", p.Name, "its agent cannot read Envoy: every stop would wait until its deadline", "let it reach Envoy's admin: --envoy-admin; docs/reference/admin-paths.md says what it asks"})
	}
	if s.App.Known {
		a.App = s.App.InFlight
	} else if setting(agent, "app-source") != "" {
		found = append(found, Finding{Error, "app-unknown", p.Name, "its agent cannot read the app's source", "try it: drain-agent probe-source, or leave --app-source out"})
	}
	return found
}

func (c *Cluster) raw(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.host+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4<<20))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", answer.StatusCode)
	}
	return text, err
}

// recent finds the events of pods that are gone by what such pods are called.
func recent(w *workload, events []corev1.Event) (found []Finding) {
	suffix := map[string]string{"Deployment": "[a-z0-9]+-[a-z0-9]{5}", "Rollout": "[a-z0-9]+-[a-z0-9]{5}", "StatefulSet": "[0-9]+", "DaemonSet": "[a-z0-9]{5}"}[w.target.Kind]
	called := regexp.MustCompile("^" + regexp.QuoteMeta(w.Name) + "-" + suffix + "$")
	for _, e := range events {
		if e.Reason == "FailedPreStopHook" && called.MatchString(e.InvolvedObject.Name) {
			found = append(found, Finding{
				Error, "hook-failed", e.InvolvedObject.Name, fmt.Sprintf("kubelet could not call a preStop hook, %d times, last at %s: %s", max(1, e.Count), e.LastTimestamp.UTC().Format("15:04:05Z"), strings.TrimSpace(e.Message)),
				"let the agent be reachable for kubelet; docs/how-to/troubleshooting.md",
			})
		}
	}
	return found
}

// linted judges the objects as they are in the cluster by lint's rules. Where the agent came in at admission, the running pod is what
// is judged.
func (c *Cluster) linted(ctx context.Context, w *workload, pods []corev1.Pod, beside []*unstructured.Unstructured) ([]Finding, error) {
	object := w.object.DeepCopy()
	if agentOf(&w.Spec.Template.Spec) == nil && len(pods) > 0 && agentOf(&pods[0].Spec) != nil {
		template, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&corev1.PodTemplateSpec{ObjectMeta: pods[0].ObjectMeta, Spec: pods[0].Spec})
		if err != nil {
			return nil, err
		}
		if err := unstructured.SetNestedMap(object.Object, template, "spec", "template"); err != nil {
			return nil, err
		}
	}
	objects := append([]*unstructured.Unstructured{object}, beside...)
	space := &unstructured.Unstructured{}
	space.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if c.Get(ctx, client.ObjectKey{Name: w.Namespace}, space) == nil { // without the right to read it, its labels are not judged
		objects = append(objects, space)
	}
	var docs []*manifest.Document
	for _, o := range objects {
		o = o.DeepCopy()
		unstructured.RemoveNestedField(o.Object, "status")
		unstructured.RemoveNestedField(o.Object, "metadata", "managedFields")
		text, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, err
		}
		parsed, err := manifest.Parse("cluster", text)
		if err != nil {
			return nil, fmt.Errorf("judge %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		docs = append(docs, parsed...)
	}
	var found []Finding
	for _, f := range lint.Judge(docs, nil).Findings {
		if f.Severity > lint.Advice {
			found = append(found, Finding{f.Severity.String(), "lint/" + f.Rule, "", f.Object + ": " + f.Message, f.Fix})
		}
	}
	return found, nil
}
