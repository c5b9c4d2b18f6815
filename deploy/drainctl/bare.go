package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// Of a pod without the agent: what its containers need beyond their hooks, as the formula of the article has it.
const (
	bareShutdown = 10 * time.Second
	bareBuffer   = 5 * time.Second
	kubeletGrace = 30 * time.Second // where the pod says nothing
)

// bareStop is one container's stop in a pod without the agent.
type bareStop struct {
	name  string
	hook  time.Duration // how long its preStop hook sleeps
	open  bool          // the hook runs for a time that stands nowhere
	hooks bool
}

func bareStops(w *manifest.Workload) (out []bareStop) {
	for _, c := range w.Regular() {
		s := bareStop{name: c.Name, hooks: c.Lifecycle != nil && c.Lifecycle.PreStop != nil}
		if s.hooks {
			s.hook, s.open = inject.HookTime(c.Lifecycle.PreStop)
		}
		out = append(out, s)
	}
	return out
}

// bareNeed is the least grace period that a pod without the agent should have.
func bareNeed(stops []bareStop) time.Duration {
	var longest time.Duration
	for _, s := range stops {
		longest = max(longest, s.hook)
	}
	return max(roundUp(longest+bareShutdown+bareBuffer), kubeletGrace)
}

func graceOf(w *manifest.Workload) time.Duration {
	if s := w.Pod.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return kubeletGrace
}

// drawBare draws what hooks cost and what they leave in a pod without the agent. It returns the grace period that is missing, 0 for none.
func drawBare(out io.Writer, title string, w *manifest.Workload) time.Duration {
	grace, stops := graceOf(w), bareStops(w)
	said := ""
	if w.Pod.Spec.TerminationGracePeriodSeconds == nil {
		said = " (not set: what Kubernetes takes)"
	}
	fmt.Fprintf(out, "%s\ngrace period %s%s, no agent: every stop costs what its hooks sleep, with traffic or without\n\n", title, seconds(grace), said)
	for _, s := range stops {
		hook, left := min(s.hook, grace), max(grace-s.hook, 0)
		what := "no preStop hook: SIGTERM at once, while clients still come"
		switch {
		case s.open:
			what = "its hook runs for a time that stands nowhere; sleeps in it are drawn"
		case s.hooks && left == 0:
			what = "nothing is left: SIGKILL two seconds after SIGTERM"
		case s.hooks:
			what = "sleeps " + seconds(s.hook) + " in every stop, then " + seconds(left) + " from SIGTERM to SIGKILL"
		}
		to := column(hook, max(grace, time.Second))
		fmt.Fprintf(out, "  %-16s %8s %8s |%s%s|  %s\n", s.name, seconds(hook), seconds(left), strings.Repeat("█", to), strings.Repeat("░", barWidth-to), what)
	}
	fmt.Fprintf(out, "\n  █ preStop   ░ left between SIGTERM and SIGKILL\n")
	need := bareNeed(stops)
	if need <= grace {
		fmt.Fprintf(out, "  change: nothing\n")
		return 0
	}
	fmt.Fprintf(out, "  change: raise the grace period to %s: preStop + %s application shutdown + %s buffer\n", seconds(need), seconds(bareShutdown), seconds(bareBuffer))
	return need
}

// graceSettings are what --apply writes: the field, and the agent's flag where there is one, for the agent cannot see the field.
func graceSettings(w *manifest.Workload, need time.Duration) ([]manifest.Setting, error) {
	out := []manifest.Setting{{Workload: w, Key: "terminationGracePeriodSeconds", Value: strconv.Itoa(int(need.Seconds()))}}
	if w.Named(inject.AgentContainer) == nil {
		return out, nil
	}
	const flag = "--grace-period="
	if args := manifest.Find(w.Container(inject.AgentContainer), "args"); args != nil {
		for _, one := range args.Content {
			if strings.HasPrefix(one.Value, flag) && one.Style == 0 {
				return append(out, manifest.Setting{Workload: w, Arg: one, Value: flag + need.String()}), nil
			}
		}
	}
	return nil, fmt.Errorf("the agent has no plain argument %s%s: write it, and terminationGracePeriodSeconds: %.0f, by hand", flag, need, need.Seconds())
}
