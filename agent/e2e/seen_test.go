package e2e

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
	"github.com/drain-agent/drain-agent/scripts/promises/fromlog"
)

// happened counts the events of a container.
func (u *under) happened(container string, kind pod.Kind) (n int) {
	for _, e := range u.Events() {
		if e.Container == container && e.Kind == kind {
			n++
		}
	}
	return n
}

func (u *under) lines() (events []timeline.Event, verdicts []timeline.Verdict) {
	for line, err := range timeline.Decode(strings.NewReader(string(u.Log("agent")))) {
		switch {
		case err != nil:
		case line.Event != nil:
			events = append(events, *line.Event)
		case line.Verdict != nil:
			verdicts = append(verdicts, *line.Verdict)
		}
	}
	return events, verdicts
}

func (u *under) events() []timeline.Event { e, _ := u.lines(); return e }

// verdict returns the last verdict and fails the test when its outcome is another one.
func (u *under) verdict(outcome string) timeline.Verdict {
	u.t.Helper()
	_, verdicts := u.lines()
	if len(verdicts) == 0 {
		u.t.Fatalf("no verdict")
	}
	v := verdicts[len(verdicts)-1]
	if v.Outcome != outcome {
		u.t.Errorf("outcome %s, want %s: %s", v.Outcome, outcome, v.Reason)
	}
	return v
}

// when returns the time of the first event of that kind, and whether it happened.
func (u *under) when(container string, kind pod.Kind) (time.Time, bool) {
	events := u.Events()
	i := slices.IndexFunc(events, func(e pod.Event) bool { return e.Container == container && e.Kind == kind })
	if i < 0 {
		return time.Time{}, false
	}
	return events[i].Time, true
}

// lastWhen is when, of the last event.
func (u *under) lastWhen(container string, kind pod.Kind) (at time.Time, ok bool) {
	for _, e := range u.Events() {
		if e.Container == container && e.Kind == kind {
			at, ok = e.Time, true
		}
	}
	return at, ok
}

// inOrder fails the test unless these things happened one after the other: "container kind".
func (u *under) inOrder(steps ...string) {
	u.t.Helper()
	var last time.Time
	for _, step := range steps {
		container, kind, _ := strings.Cut(step, " ")
		at, ok := u.lastWhen(container, pod.Kind(kind))
		if !ok {
			u.t.Errorf("%s did not happen", step)
		} else if at.Before(last) {
			u.t.Errorf("%s came %v too early", step, last.Sub(at))
		}
		last = at
	}
}

// keepsItsPromises judges whatever happened in the pod by the lines of the agent's log.
func (u *under) keepsItsPromises(agent *corev1.Container) {
	u.t.Helper()
	if agent == nil {
		return
	}
	pod, err := fromlog.Pod(agent.Args)
	if err != nil {
		u.t.Error(err)
		return
	}
	for _, broken := range fromlog.Broken(pod, string(u.Log("agent"))) {
		u.t.Error("a promise is broken: " + broken)
	}
}

// noCap fails the test when some phase ended because its time was over.
func (u *under) noCap() {
	u.t.Helper()
	for _, e := range u.events() {
		for _, cap := range []string{"did not end within", "quiet-max", "budget is over", "announce-max"} {
			if strings.Contains(e.Reason, cap) {
				u.t.Errorf("a cap was paid: %s", e.Reason)
			}
		}
	}
}

func (u *under) dump() {
	for _, e := range u.Events() {
		u.t.Log(e)
	}
	events, verdicts := u.lines()
	for _, e := range events {
		u.t.Log(e.Text())
	}
	for _, v := range verdicts {
		u.t.Log(v.Text())
	}
	for _, name := range []string{"proxy", "app"} {
		log := u.Log(name)
		u.t.Logf("--- %s\n%s", name, log[max(0, len(log)-1500):])
	}
}
