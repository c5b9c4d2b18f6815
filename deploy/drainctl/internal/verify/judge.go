package verify

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/deploy/internal/inject"
)

// Stop is what is known of one pod that went. Times are milliseconds after its deletion was seen; null: not known.
type Stop struct {
	Pod         string            `json:"pod"`
	Verdict     *timeline.Verdict `json:"verdict"`
	TookMS      *int64            `json:"took_ms"`
	LeftMS      *int64            `json:"left_endpoints_ms"` // when no EndpointSlice had it as ready any longer; negative: before
	ReleasedMS  *int64            `json:"released_ms"`       // after T0: when the first hook was answered
	NoEndpoints bool              `json:"no_endpoints"`      // it was in no EndpointSlice at all
}

// outcomes say what to do about a drain that did not end clean.
func outcomes() map[string]string {
	return map[string]string{
		"deadline":             "raise terminationGracePeriodSeconds and --grace-period (drainctl budget draws the phases), or give what was waited for a time limit of its own; docs/how-to/troubleshooting.md has a row for each reason",
		"proxy_died":           "look at how the proxy ended (kubectl logs --previous, OOMKilled, its own drain time): it must outlive the drain",
		"app_died":             "look at how the app ended: it must serve until SIGTERM, and finish what it has after it",
		"finished_by_operator": "somebody said drain-agent finish: run verify again without",
		"aborted":              "the agent took its drain back before the pod went: something calls the hook while the pod lives on",
		"watchdog":             "the agent's loop hung, its CPU limit may be too low: raise or remove it, and report the log",
		"container_restart":    "the last verdict is that of a restarted container, not of the stop: look at its liveness probe, and at how the agent ended",
		"maintenance":          "the last verdict is that of a maintenance, not of the stop: look at how the agent ended",
	}
}

// verdictOf reads the agent's termination message in a pod's status; nil without one.
func verdictOf(p *corev1.Pod) *timeline.Verdict {
	for _, s := range statuses(p) {
		if s.Name == inject.AgentContainer && s.State.Terminated != nil {
			return decodeVerdict(s.State.Terminated.Message)
		}
	}
	return nil
}

func decodeVerdict(message string) (last *timeline.Verdict) {
	for line, err := range timeline.Decode(strings.NewReader(message)) {
		if err == nil && line.Verdict != nil {
			last = line.Verdict
		}
	}
	return last
}

// stopOf puts together what is known of a pod that is gone.
func stopOf(p *seenPod) Stop {
	s := Stop{Pod: p.Last.Name, Verdict: verdictOf(&p.Last), NoEndpoints: !p.Listed}
	since := func(t time.Time) *int64 {
		if t.IsZero() || p.Deleted.IsZero() {
			return nil
		}
		ms := t.Sub(p.Deleted).Milliseconds()
		return &ms
	}
	s.TookMS, s.LeftMS = since(p.Gone), since(p.Left)
	if v := s.Verdict; v != nil && len(v.Phases) > 0 {
		ms := v.TotalMS - v.Phases["stopping"] - v.Phases["finished"]
		s.ReleasedMS = &ms
	}
	return s
}

// judge says everything that was wrong with one stop.
func judge(p *seenPod, events []corev1.Event) (found []Finding) {
	s := stopOf(p)
	add := func(check, fix, format string, args ...any) {
		found = append(found, Finding{Error, check, p.Last.Name, fmt.Sprintf(format, args...), fix})
	}
	v := s.Verdict
	switch {
	case agentOf(&p.Last.Spec) == nil:
		add("no-agent", "drainctl inject", "it had no agent")
	case v == nil:
		found = append(found, noVerdict(p))
	default:
		found = append(found, ofVerdict(p.Last.Name, v)...)
	}
	for _, e := range events {
		if e.InvolvedObject.UID == p.Last.UID && e.Reason == "FailedPreStopHook" {
			add("hook-failed", "let the agent be reachable for kubelet: it runs, does not listen on loopback, the hook's port is a number, a STRICT mesh excludes it; docs/how-to/troubleshooting.md",
				"kubelet could not call a preStop hook (%s): %s: SIGTERM came at once", strings.TrimPrefix(e.InvolvedObject.FieldPath, "spec."), strings.TrimSpace(e.Message))
		}
	}
	for _, c := range statuses(&p.Last) {
		if end := c.State.Terminated; end != nil && (end.Reason == "OOMKilled" || end.ExitCode == 137) && (v != nil || c.Name != inject.AgentContainer) {
			why := "it was still running when the grace period ended"
			if end.Reason == "OOMKilled" {
				why = "it needed more memory than its limit"
			}
			add("killed", "give it the time (or memory) that it needs: drainctl budget, resources.limits", "container %s was killed: %s", c.Name, why)
		}
	}
	return append(found, ofEndpoints(p, &s)...)
}

// noVerdict says why a pod left none.
func noVerdict(p *seenPod) Finding {
	f := Finding{Error, "no-verdict", p.Last.Name, "", "run verify again; kept logs of the agent have the verdict too: drainctl timeline"}
	if p.Unseen {
		f.Message = "it vanished while the watch of pods was interrupted: nobody saw its end, so its verdict is unknown"
		return f
	}
	for _, s := range statuses(&p.Last) {
		if s.Name != inject.AgentContainer {
			continue
		}
		switch end := s.State.Terminated; {
		case end == nil:
			f.Message = "it vanished without a last status of its agent: a forced deletion, a lost node, or a kubelet that did not report"
			f.Fix = "look at the node and at who deletes pods with --force or --grace-period=0: no hook is held then"
		case end.Reason == "OOMKilled":
			f.Message, f.Fix = "its agent was killed for want of memory and left no verdict", "raise the agent's memory limit, to 32Mi at least"
		default:
			f.Message = fmt.Sprintf("its agent ended with exit code %d (%s) and left no verdict", end.ExitCode, end.Reason)
			f.Fix = "read the agent's log; terminationMessagePath must be /dev/termination-log, and 137 is a kill from outside"
		}
		return f
	}
	f.Message = "its status says nothing of its agent"
	return f
}

// ofVerdict judges what the agent itself says.
func ofVerdict(pod string, v *timeline.Verdict) (found []Finding) {
	add := func(check, fix, format string, args ...any) {
		found = append(found, Finding{Error, check, pod, fmt.Sprintf(format, args...), fix})
	}
	cut := cutOf(v)
	if v.Outcome != "clean" {
		fix, known := outcomes()[v.Outcome]
		if !known {
			fix = "this drainctl does not know the outcome: use one as new as the agent"
		}
		waited := ""
		if v.HeldLongest != "" {
			waited = ", longest for " + v.HeldLongest
		}
		if cut != "" {
			waited += ", cut off in flight: " + cut
		}
		add(strings.ReplaceAll(v.Outcome, "_", "-"), fix, "the drain ended as %s after %.1f s%s: %s", v.Outcome, float64(v.TotalMS)/1000, waited, v.Reason)
	}
	if cut != "" && v.Outcome == "clean" {
		add("cut", "what is cut needs more time (drainctl budget), or a time limit of its own", "cut off in flight: %s", cut)
	}
	if n := v.ArrivalsAfterRelease; n != nil && *n > 0 {
		add("arrivals", "clients or a balancer go on sending for longer than the agent waits: raise --propagation, or say --preset of the balancer (drainctl budget --presets)",
			"%d requests came after the first hook was answered", *n)
	}
	if strings.HasPrefix(v.Reason, "hook cut") {
		add("hook-cut", "something between kubelet and the agent hangs up: a proxy's idle time limit, or a redirected port (exclude it)", "a hook was cut while it was held: %s", v.Reason)
	}
	if v.Outcome == "clean" && v.ArrivalsAfterRelease == nil {
		found = append(found, Finding{Note, "arrivals-unknown", pod, "nobody could count what came after the release: unknown, not zero", ""})
	}
	return found
}

func cutOf(v *timeline.Verdict) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(v.Cut)) {
		if v.Cut[name] > 0 {
			all = append(all, fmt.Sprintf("%s %d", name, v.Cut[name]))
		}
	}
	return strings.Join(all, ", ")
}

// ofEndpoints compares the moment at which a pod left the endpoints with the one at which its first hook was answered. Both count
// from the beginning of the stop, each by its own clock: no two clocks are compared.
func ofEndpoints(p *seenPod, s *Stop) []Finding {
	const fix = "raise --propagation above that time (drainctl budget shows what it costs), and look at why the endpoints were late"
	switch {
	case p.Unseen || !p.Listed:
		return nil
	case s.LeftMS == nil:
		return []Finding{{Error, "endpoints-late", s.Pod, "an EndpointSlice had it as ready after it was gone", fix}}
	case s.ReleasedMS != nil && *s.LeftMS > *s.ReleasedMS:
		return []Finding{{Error, "endpoints-late", s.Pod, fmt.Sprintf("it left the EndpointSlices %d ms after its deletion, its first hook was answered %d ms after its drain began: new requests were sent to a pod that stopped",
			*s.LeftMS, *s.ReleasedMS), fix}}
	}
	return nil
}

// newEvents are those that were not there before, or came again.
func newEvents(before, after []corev1.Event) []corev1.Event {
	was := map[types.UID]int32{}
	for _, e := range before {
		was[e.UID] = e.Count
	}
	return slices.DeleteFunc(slices.Clone(after), func(e corev1.Event) bool {
		count, known := was[e.UID]
		return known && count == e.Count
	})
}

// notReady says why new pods hold up the rollout.
func notReady(w *workload, all []seenPod, events []corev1.Event) (found []Finding) {
	fix := "mend it, or go back: " + w.target.kubectl("undo")
	for _, p := range all {
		if p.Old || !p.Gone.IsZero() || isReady(&p.Last) {
			continue
		}
		message := "the new pod does not become ready: " + whyNotReady(&p.Last)
		if i := slices.IndexFunc(events, func(e corev1.Event) bool {
			return e.InvolvedObject.UID == p.Last.UID && e.Type == corev1.EventTypeWarning
		}); i >= 0 {
			message += "; " + events[i].Reason + ": " + strings.TrimSpace(events[i].Message)
		}
		found = append(found, Finding{Error, "not-ready", p.Last.Name, message, fix})
	}
	for _, e := range events {
		if e.Reason == "FailedCreate" && strings.HasPrefix(e.InvolvedObject.Name, w.Name) {
			found = append(found, Finding{Error, "not-created", "", "pods cannot be created: " + strings.TrimSpace(e.Message), fix})
			break
		}
	}
	if said := w.stalled(); said != "" {
		found = append(found, Finding{Error, "stalled", "", w.target.String() + " gave the rollout up: " + said, fix})
	}
	return found
}
