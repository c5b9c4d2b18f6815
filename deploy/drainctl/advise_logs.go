package main

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/advice"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/rollout"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/verify"
)

// podShape is how a kind calls its pods.
type podShape struct {
	form string // as people read it
	is   *regexp.Regexp
}

// Kubernetes makes hashes of 4 to 9, b, c, d and f, and the ends of names without vowels, so that neither is a word. Hashes of other
// tools may have all digits of 16; those without a figure are words.
var (
	replaced = podShape{"HASH-xxxxx", regexp.MustCompile(`^(?:[0-9a-f]*[0-9][0-9a-f]*)-[a-z0-9]{5}$`)}
	shapes   = map[string]podShape{
		"Deployment": replaced, "Rollout": replaced,
		"StatefulSet": {"NUMBER", regexp.MustCompile(`^\d+$`)},
		"DaemonSet":   {"xxxxx", regexp.MustCompile(`^[b-df-hj-np-tv-xz24-9]{5}$`)},
	}
)

// recorded takes the stops of logs: those of the workload's pods, by namespace where the logs tell it. It returns the pods of others.
func (a *adviser) recorded(drains []*rollout.Drain, workload string, stops map[string][]advice.Stop) (others strangers) {
	target, _ := verify.ParseTarget(workload, a.namespace) // looked at before; none: all pods
	others = strangers{}
	for _, d := range drains {
		rest, named := strings.CutPrefix(d.Pod, target.Name+"-")
		if workload != "" && (!named || !shapes[target.Kind].is.MatchString(rest)) {
			others[d.Pod] = true
			continue
		}
		if a.namespace != "" && d.Namespace != "" && d.Namespace != a.namespace {
			others[d.Namespace+"/"+d.Pod] = true
			continue
		}
		whose := cmp.Or(workload, "all pods of the logs")
		if d.Namespace != "" {
			whose += " in the logs of " + d.Namespace
		}
		s := advice.Stop{Pod: d.Pod, Outcome: "unknown"}
		if v := d.Verdict; v != nil {
			if slices.Contains([]string{"container_restart", "maintenance", "aborted"}, v.Outcome) {
				continue
			}
			s.Outcome, s.TotalMS = v.Outcome, advice.Possible(&v.TotalMS)
			s.Read(v)
		}
		stops[whose] = append(stops[whose], s)
	}
	return others
}

// called says how the pods of a workload are called.
func called(workload string) string {
	target, err := verify.ParseTarget(workload, "")
	if err != nil {
		return "" // all pods
	}
	return fmt.Sprintf("; %s has pods %s-%s", workload, target.Name, shapes[target.Kind].form)
}

// strangers are pods that do not count.
type strangers map[string]bool

func (s strangers) String() string {
	names := slices.Sorted(maps.Keys(s))
	if more := len(names) - 3; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), more)
	}
	return strings.Join(names, ", ")
}
