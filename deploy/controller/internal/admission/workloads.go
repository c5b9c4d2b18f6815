package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/lint"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// Workloads warns about the objects that make pods, where a person reads it: what lint calls an error in the pods that will come out
// of them, and why a pod would not get its agent.
type Workloads struct {
	Beside   *Beside
	Defaults inject.Options
	Deny     bool // refuse what lint calls an error
	Log      *slog.Logger
}

// Handle answers about one object.
func (l *Workloads) Handle(ctx context.Context, r admission.Request) (answer admission.Response) {
	answer = admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Allowed: true}}
	defer func() {
		if bug := recover(); bug != nil {
			l.Log.ErrorContext(ctx, "panic", "object", r.Kind.Kind+" "+r.Name, "namespace", r.Namespace, "what", fmt.Sprint(bug), "stack", string(debug.Stack()))
			answer = admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Allowed: true}}
		}
	}()
	warnings, breaches, err := l.judge(ctx, r)
	if err != nil {
		l.Log.WarnContext(ctx, "not judged", "object", r.Kind.Kind+" "+r.Name, "namespace", r.Namespace, "reason", plain(err.Error()))
		return answer
	}
	answer.Warnings = warnings
	if l.Deny && breaches > 0 {
		answer.Allowed = false
		answer.Result = &metav1.Status{Code: 403, Reason: metav1.StatusReasonForbidden, Message: fmt.Sprintf("drain-agent: %d mistakes that hurt at the next rollout; the warnings name them", breaches)}
	}
	return answer
}

// judge returns the warnings, and how many of them lint calls errors.
func (l *Workloads) judge(ctx context.Context, r admission.Request) (warnings []string, breaches int, err error) {
	docs, err := manifest.Parse(r.Kind.Kind, r.Object.Raw)
	if err != nil {
		return nil, 0, err
	}
	objects := manifest.Objects(docs)
	if len(objects) != 1 || objects[0].Workload == nil {
		return nil, 0, errors.New("it makes no pods that are known")
	}
	w := objects[0].Workload
	w.Namespace = r.Namespace
	namespace, err := l.Beside.Namespace(ctx, r.Namespace)
	if err != nil {
		return nil, 0, err
	}
	beside, err := l.Beside.Of(ctx, r.Namespace, &w.Pod)
	if err != nil {
		return nil, 0, err
	}
	o := l.Defaults
	o.Beside, o.Token, o.Lenient = append(beside, namespace, w.Object), "TOKEN", true
	_, problems := o.For(w, o.Beside)
	for _, problem := range problems {
		warnings = append(warnings, plain("drain-agent: annotation without effect: "+problem))
	}
	text, reports, err := inject.File(r.Kind.Kind, r.Object.Raw, o) // its pods as they will be
	if err != nil {
		warnings = append(warnings, plain("drain-agent will not be added: "+err.Error()))
		text = r.Object.Raw
	}
	for _, report := range reports {
		warnings = append(warnings, hostPort(report.Plan)...)
	}
	after, err := manifest.Parse(r.Kind.Kind, text)
	if err != nil {
		return nil, 0, err
	}
	found := lint.Judge(after, nil).Findings
	for _, f := range slices.DeleteFunc(found, func(f lint.Finding) bool { return f.Severity < lint.Error }) {
		breaches++
		warnings = append(warnings, plain(fmt.Sprintf("drain-agent: %s: %s. %s", f.Rule, f.Message, f.Fix)))
	}
	return warnings, breaches, nil
}
