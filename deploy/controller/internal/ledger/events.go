package ledger

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// teller says what came of a stop: one log line, and an Event on the workload when it was not clean.
type teller struct {
	log    *slog.Logger
	client client.Client
	rate   flowcontrol.RateLimiter
	unsaid func() // counts Events that were left out
}

// Events come at most once a second after the first 25: a rollout that goes wrong is one fact, not a thousand.
const eventsPerSecond, eventsAtOnce = 1, 25

// eventLife is how long the API server keeps an Event: what is older was told when it happened.
const eventLife = time.Hour

func newTeller(c client.Client, log *slog.Logger, unsaid func()) *teller {
	return &teller{log: log, client: c, rate: flowcontrol.NewTokenBucketRateLimiter(eventsPerSecond, eventsAtOnce), unsaid: unsaid}
}

func (t *teller) tell(ctx context.Context, s *Stop) {
	t.log.InfoContext(ctx, "stop", "stop", s)
	if !s.PodStopped || s.Outcome == "clean" && (s.Cut == nil || *s.Cut == 0) || s.old && time.Since(s.EndedAt.Time) > eventLife {
		return
	}
	if !t.rate.TryAccept() {
		t.unsaid()
		return
	}
	t.say(ctx, event(s))
}

func (t *teller) say(ctx context.Context, e *corev1.Event) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := t.client.Create(ctx, e); err != nil && !apierrors.IsAlreadyExists(err) { // the other replica was first
		t.unsaid()
		t.log.WarnContext(ctx, "an Event was not made", "namespace", e.Namespace, "workload", e.InvolvedObject.Name, "error", err.Error())
	}
}

// event is on the workload, where kubectl describe shows it. Its name is the same whoever makes it.
func event(s *Stop) *corev1.Event {
	reason := "DrainNotClean"
	if s.Outcome == unknown {
		reason = "DrainUnknown"
	}
	name := fmt.Sprintf("drain-%s-%s", s.UID, strings.ReplaceAll(s.Outcome, "_", "-"))
	return eventOn(s.Workload, s.Namespace, name, corev1.EventTypeWarning, reason, message(s), s.EndedAt.Time)
}

func eventOn(w Workload, namespace, name, kind, reason, text string, when time.Time) *corev1.Event {
	at := metav1.NewTime(when)
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: namespace, Name: name},
		InvolvedObject: corev1.ObjectReference{APIVersion: w.APIVersion, Kind: w.Kind, Namespace: namespace, Name: w.Name, UID: types.UID(w.UID)},
		Type:           kind, Reason: reason, Message: strings.ToValidUTF8(text[:min(len(text), 1000)], ""), // Kubernetes refuses more than 1,024 bytes
		FirstTimestamp: at, LastTimestamp: at, Count: 1,
		Source: corev1.EventSource{Component: "drain-controller"}, ReportingController: "drain-agent.io/drain-controller",
	}
}

func message(s *Stop) string {
	text := fmt.Sprintf("pod %s on %s: %s", s.Name, cmp.Or(s.Node, "no node"), s.Outcome)
	if s.TotalMS != nil {
		text += fmt.Sprintf(" after %.1f s", float64(*s.TotalMS)/1000)
	}
	if s.Cut != nil && *s.Cut > 0 {
		text += fmt.Sprintf(", %d cut off", *s.Cut)
	}
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text
}
