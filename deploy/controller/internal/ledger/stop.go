package ledger

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Pod is what is remembered of a pod with an agent, and all that is known of one that vanished.
type Pod struct {
	UID       string   `json:"pod_uid"`
	Namespace string   `json:"namespace"`
	Name      string   `json:"pod"`
	Node      string   `json:"node"`
	Workload  Workload `json:"workload"`
	Revision  string   `json:"revision"`          // of the pod's template; "" where nothing tells it
	GraceS    *int64   `json:"grace_period_s"`    // as the pod has it, or as the deletion said
	Deleted   *Moment  `json:"deletion_asked_at"` // null: nobody asked, or nobody saw it
	Phase     string   `json:"last_phase"`
	ExitCode  *int32   `json:"agent_exit_code"`  // null: its end was not seen
	Ran       bool     `json:"agent_ran"`        // it was seen to run, or to have ended
	Created   Moment   `json:"created,omitzero"` // of pods that have no row yet
}

// Workload is what made the pod: the Deployment and not its ReplicaSet, the CronJob and not its Job.
type Workload struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	APIVersion string `json:"api_version"`
	UID        string `json:"uid"`
}

// Stop is one row: a stop of a pod, or a drain of a pod that lived on.
type Stop struct {
	ID string `json:"id"`
	Pod
	PodStopped bool            `json:"pod_stopped"` // false: the pod lived on, as after the restart of a container
	Outcome    string          `json:"outcome"`     // of the verdict; "unknown" without one
	Reason     string          `json:"reason"`
	EndedAt    Moment          `json:"ended_at"`               // the verdict's time; without one when the pod was seen to be gone
	TotalMS    *int64          `json:"total_ms"`               // null: unknown
	Cut        *int64          `json:"requests_cut"`           // null: unknown
	Late       *int64          `json:"arrivals_after_release"` // null: unknown
	Whole      bool            `json:"verdict_whole"`          // false: there is none, or the end of the message was cut off, or a part is too long to be kept
	Verdict    json.RawMessage `json:"verdict"`                // the keys that the message carries, as the agent wrote them; null: none

	old bool // it was over before this process saw the pod for the first time
}

// Moment is a time in JSON with milliseconds, in UTC.
type Moment struct{ time.Time }

// MarshalJSON writes RFC 3339.
func (m Moment) MarshalJSON() ([]byte, error) {
	return []byte(`"` + m.UTC().Format("2006-01-02T15:04:05.000Z07:00") + `"`), nil
}

// remembered is what a stripped pod tells; before is what was known of it, or its zero value.
func remembered(pod *corev1.Pod, before Pod) Pod {
	now := before
	now.UID, now.Namespace, now.Name = string(pod.UID), pod.Namespace, pod.Name
	now.Created = Moment{pod.CreationTimestamp.Time}
	now.Node, now.Revision, now.Phase = pod.Spec.NodeName, pod.Labels[revisionLabel], string(pod.Status.Phase)
	if now.GraceS == nil {
		now.GraceS = pod.Spec.TerminationGracePeriodSeconds
	}
	if at := pod.DeletionTimestamp; at != nil && before.Deleted == nil { // the last of several deletions has a grace period of 0
		asked := at.Time
		if s := pod.DeletionGracePeriodSeconds; s != nil {
			asked = asked.Add(-time.Duration(*s) * time.Second)
			now.GraceS = s
		}
		now.Deleted = &Moment{asked}
	}
	for _, s := range pod.Status.ContainerStatuses {
		now.Ran = now.Ran || s.State.Waiting == nil && (s.State.Running != nil || s.State.Terminated != nil) || s.LastTerminationState.Terminated != nil
		if t := s.State.Terminated; t != nil {
			now.ExitCode = &t.ExitCode
		}
	}
	return now
}

// clockSkew is how far the clocks of a node and of the API server may be apart.
const clockSkew = time.Second

// over reports whether kubelet has said its last word of a pod that may stay for days.
func over(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// judge reads the verdicts of a stripped pod: that of its stop, and those of drains before it, which the pod outlived.
func judge(pod *corev1.Pod, known Pod, gone bool) (stop *Stop, drains []*Stop) {
	stopping := gone || pod.DeletionTimestamp != nil || over(pod)
	for _, s := range pod.Status.ContainerStatuses {
		for i, t := range []*corev1.ContainerStateTerminated{s.LastTerminationState.Terminated, s.State.Terminated} {
			if t == nil {
				continue
			}
			v := readVerdict(t.Message)
			if v == nil {
				continue
			}
			if end := t.FinishedAt.Time; v.Time.IsZero() || !end.IsZero() && v.Time.After(end.Add(time.Hour)) { // nobody speaks after its end
				v.Time = end
			}
			switch last := i == 1; {
			case stopping && (last && !stayed(v.Outcome) || known.since(v)):
				stop = row(known, v, true)
			case stopping || !last:
				drains = append(drains, row(known, v, false))
			}
		}
	}
	return stop, drains
}

// since reports whether a verdict came after the pod's stop began. Without a deletion nothing says when it began: then it is the stop's.
func (p Pod) since(v *verdict) bool {
	return p.Deleted == nil || !v.Time.Before(p.Deleted.Add(-clockSkew))
}

func row(p Pod, v *verdict, stopped bool) *Stop {
	p.Created = Moment{}
	s := &Stop{
		ID: p.UID, Pod: p, PodStopped: stopped, Outcome: v.Outcome, Reason: v.Reason, EndedAt: Moment{v.Time},
		TotalMS: v.TotalMS, Cut: v.Cut, Late: v.Late, Whole: v.Whole, Verdict: v.Raw,
	}
	if !stopped {
		s.ID = fmt.Sprintf("%s/%d", p.UID, v.Time.UnixMilli())
	}
	return s.bounded()
}

// lost is the row of a pod that is gone and left no verdict.
func lost(p Pod, why string, at time.Time) *Stop {
	p.Created = Moment{}
	return &Stop{ID: p.UID, Pod: p, PodStopped: true, Outcome: unknown, Reason: clip(why), EndedAt: Moment{at}}
}

// whyLost says what is known of the agent's end.
func whyLost(pod *corev1.Pod, known Pod) string {
	for _, s := range pod.Status.ContainerStatuses {
		if t := s.State.Terminated; t != nil {
			return strings.TrimSpace(fmt.Sprintf("the agent's container ended with exit code %d %s", t.ExitCode, inBrackets(printable(t.Reason)))) + " and left no verdict"
		}
	}
	if known.Deleted == nil {
		return "the pod is gone; neither its deletion nor its agent's end was seen"
	}
	return "the pod is gone; its agent's end was not seen"
}

func inBrackets(text string) string {
	if text == "" {
		return ""
	}
	return "(" + text + ")"
}

// neverRan reports that a pod ended before its agent was started: nothing was stopped. It is asked only of a pod whose last status is
// the real one, and says so only where that status says it.
func neverRan(pod *corev1.Pod, known Pod) bool {
	if known.Ran {
		return false
	}
	if pod.Spec.NodeName == "" {
		return true
	}
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Waiting == nil {
			return false
		}
	}
	return pod.Status.Phase == corev1.PodPending || len(pod.Status.ContainerStatuses) == 0 && pod.Status.Phase == corev1.PodFailed
}

// ended is when the agent's container ended, as far as its status tells.
func ended(pod *corev1.Pod, otherwise time.Time) time.Time {
	for _, s := range pod.Status.ContainerStatuses {
		if t := s.State.Terminated; t != nil && !t.FinishedAt.IsZero() {
			return t.FinishedAt.Time
		}
	}
	return otherwise
}
