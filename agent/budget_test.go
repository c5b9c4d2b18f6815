package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/budget"
)

// What drainctl draws and lints is computed from the pod's arguments by agent/budget; the agent reads them with its own
// command line. Both must divide a grace period alike.
func TestBudgetOfThePodsArgumentsIsTheAgents(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"--grace-period=60s", "--stop=app=20s", "--stop=proxy=3s"},
		{"--grace-period", "65s", "--stop", "app=20s,proxy=3s"},
		{"--hooks=app,worker,otel,proxy,agent", "--stop-order=app+worker,otel,proxy", "--stop=otel=4s", "--margin=3s"},
		{"--hooks=proxy,agent", "--stop-order=proxy", "--preset=alb", "--grace-period=20s"},
		{"--preset=nlb", "--propagation=9s", "--confirm-window=500ms", "--settle=1s"},
	} {
		here := loaded(t, args...).policy
		there, err := budget.FromArgs(args)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		if here.Budget() != there.Budget() {
			t.Errorf("%v: the agent divides %+v, agent/budget %+v", args, here.Budget(), there.Budget())
		}
	}
}

// What drainctl lint knows of the command line, and docs/reference/flags.md, are the command line: the names, how values are
// read, and the words that the help names.
func TestTheFlagsThatLintKnowsAreTheAgents(t *testing.T) {
	k, _ := commandModel(t)
	known := budget.Flags()
	for _, node := range k.Model.Children[1:] {
		for _, f := range node.Flags {
			for _, twin := range f.Envs {
				if bad := budget.Problems(nil, map[string]string{twin: ""}); bad != nil {
					t.Errorf("a twin of %s: %s", node.Name, bad)
				}
			}
		}
	}
	for _, f := range k.Model.Children[0].Flags {
		want := budget.AnyText
		switch f.Target.Interface().(type) {
		case value[time.Duration]:
			want = budget.DurationText
		case value[float64]:
			want = budget.NumberText
		case toggle:
			want = budget.BoolText
		case list:
			if strings.HasPrefix(f.Help, "NAME=DURATION:") {
				want = budget.SharesText
			}
		case string:
			if words := wordsOf(f.Help); f.HasDefault && slices.Contains(words, f.Default) {
				want = strings.Join(words, ", ")
			}
		}
		if known[f.Name] != want {
			t.Errorf("--%s takes %q, agent/budget says %q", f.Name, want, known[f.Name])
		}
		delete(known, f.Name)
	}
	if len(known) > 0 {
		t.Errorf("no such flags: %v", known)
	}
}

// wordsOf finds the words in a help text such as "Who it is: auto, envoy or istio."
func wordsOf(help string) []string {
	found := regexp.MustCompile(`[\w-]+(, [\w-]+)*,? or [\w-]+`).FindString(help)
	return regexp.MustCompile(`,? or |, `).Split(found, -1)
}

func TestTheAgentRefusesWhatLintReports(t *testing.T) {
	for line, refused := range map[string]bool{
		"run --no-such-flag": true, "--no-such-flag=x": true, "run --mode=dry": true, "--mode=": true, "run --poll=x": true, "--restart-max x": true,
		"--quit-proxy=perhaps": true, "--quit-proxy true": true, "--background=-1": true, "--stop=app": true, "--stop=app=5s,proxy=x": true,
		"--observe-sleep=app=long": true, "--preset=f5": true, "--grace-period=30": true, "run now": true, "-mode=observe": true,
		"": false, "--poll=": true, "--margin=": true, "--accept-loss=": true, "run --stop= --quit-proxy --mode observe": false, "--accept-loss 0.1 --quit-proxy=0 --stop=app=5s,proxy=2s": false,
		"--preset=nlb --token-file=/x": false,
	} {
		k, flags := commandModel(t)
		_, err := k.Parse(strings.Fields(line))
		if err == nil {
			_, err = load(&flags.Run)
		}
		if bad := budget.Problems(strings.Fields(line), nil); refused != (err != nil) || refused != (len(bad) == 1) {
			t.Errorf("%q: the agent says %v, lint %q", line, err, bad)
		}
	}
}
