// Package admission answers the API server about pods and about the objects that make pods. It allows all of them: a pod that cannot
// get an agent starts without one, and somebody is told why.
package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/drain-agent/drain-agent/agent/secret"
	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// failed is the state of a pod that could not be judged: something beside it could not be read, or we have a bug.
const failed inject.State = "failed"

// Pods adds the agent to pods.
type Pods struct {
	Beside   *Beside
	Defaults inject.Options
	Log      *slog.Logger
	counted  *prometheus.CounterVec
}

// Metrics registers the counter of pods by what became of them.
func (p *Pods) Metrics(r prometheus.Registerer) error {
	p.counted = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drain_controller_pods_total",
		Help: "Pods that the API server asked about, by what became of them: " + strings.Join(states(), ", ") + ". A pod that a mesh changed after us is asked about again: it is injected, then already.",
	}, []string{"state"})
	for _, state := range states() {
		p.counted.WithLabelValues(state)
	}
	return r.Register(p.counted)
}

func states() []string {
	return []string{string(inject.Injected), string(inject.Already), string(inject.OptedOut), string(inject.NoEnvoy), string(inject.Waiting), string(inject.Refused), string(failed)}
}

// Handle answers about one pod. It never refuses one, whatever happens.
func (p *Pods) Handle(ctx context.Context, r admission.Request) (answer admission.Response) {
	defer func() {
		if bug := recover(); bug != nil {
			p.Log.ErrorContext(ctx, "panic", "pod", nameOf(r), "namespace", r.Namespace, "what", fmt.Sprint(bug), "stack", string(debug.Stack()))
			answer = p.answer(ctx, r, inject.Outcome{State: failed, Why: "the controller has a bug; its log has more"})
		}
	}()
	out, err := p.decide(ctx, r)
	if err != nil {
		out = inject.Outcome{State: failed, Why: err.Error()}
	}
	return p.answer(ctx, r, out)
}

// decide plans the pod.
func (p *Pods) decide(ctx context.Context, r admission.Request) (out inject.Outcome, err error) {
	w, err := podOf(r)
	if err != nil {
		return out, err
	}
	namespace, err := p.Beside.Namespace(ctx, r.Namespace)
	if err != nil {
		return out, err
	}
	beside, err := p.Beside.Of(ctx, r.Namespace, &w.Pod)
	if err != nil {
		return out, err
	}
	return inject.Pod(w, append(beside, namespace), p.Defaults), nil
}

// podOf reads the pod as the API server sent it.
func podOf(r admission.Request) (*manifest.Workload, error) {
	docs, err := manifest.Parse("the pod", r.Object.Raw)
	if err != nil {
		return nil, err
	}
	objects := manifest.Objects(docs)
	if len(objects) != 1 || objects[0].Workload == nil {
		return nil, fmt.Errorf("read %s: it is no pod", r.Kind.Kind)
	}
	objects[0].Namespace = r.Namespace
	return objects[0].Workload, nil
}

func (p *Pods) answer(ctx context.Context, r admission.Request, out inject.Outcome) admission.Response {
	answer := admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Allowed: true, AuditAnnotations: map[string]string{"state": string(out.State)}}}
	if len(out.Patch) > 0 {
		patch, err := json.Marshal(out.Patch)
		if err != nil {
			out = inject.Outcome{State: failed, Why: err.Error()}
			answer.AuditAnnotations["state"] = string(failed)
		} else {
			answer.Patch, answer.PatchType = patch, new(admissionv1.PatchTypeJSONPatch)
			answer.AuditAnnotations["added"] = plain(out.Plan.Shape())
			answer.Warnings = hostPort(out.Plan)
		}
	}
	if out.Why != "" {
		answer.AuditAnnotations["reason"] = plain(out.Why)
	}
	if p.counted != nil {
		p.counted.WithLabelValues(string(out.State)).Inc()
	}
	if out.State == inject.Refused || out.State == failed {
		answer.Warnings = append(answer.Warnings, plain("drain-agent is not added: "+out.Why))
		p.Log.WarnContext(ctx, "not added", "state", string(out.State), "pod", nameOf(r), "namespace", r.Namespace, "reason", plain(out.Why))
	}
	if out.State == inject.Injected || out.State == inject.Refused { // else nothing was to be set
		for _, problem := range out.Problems {
			answer.Warnings = append(answer.Warnings, plain("drain-agent: annotation without effect: "+problem))
		}
	}
	return answer
}

// hostPort warns of a port of the node that the agent takes: drainctl inject sees the other workloads in the host's network, a webhook
// does not.
func hostPort(p *inject.Plan) []string {
	if p == nil || p.HostPort == "" {
		return nil
	}
	return []string{plain("drain-agent: " + p.HostPort)}
}

// nameOf is the pod's name, or what its name will begin with.
func nameOf(r admission.Request) string {
	var o struct {
		Metadata struct {
			Name         string `json:"name"`
			GenerateName string `json:"generateName"`
		} `json:"metadata"`
	}
	if json.Unmarshal(r.Object.Raw, &o) != nil || o.Metadata.Name != "" {
		return o.Metadata.Name
	}
	return o.Metadata.GenerateName + "*"
}

// plain puts a text on one line, without what may be a secret: the API server drops warnings with line ends. Flags are annotations here.
func plain(text string) string {
	return strings.Join(strings.FieldsFunc(secret.HideText(text), func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
}
