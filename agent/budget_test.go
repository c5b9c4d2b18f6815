package main

import (
	"testing"

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
