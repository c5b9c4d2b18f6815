package main

import (
	"context"
	"syscall"
	"time"
)

// fault is what goes wrong, and what must come of the stop all the same.
type fault struct {
	name    string
	outcome []string // one of them is true; empty: clean
	loses   bool     // what is in flight may be lost: the fault kills who holds it, or somebody wanted it so
	silent  bool     // the agent may be killed before it can write a verdict
	cut     bool     // hooks may fail: who answers them dies, or kubelet gives up before what it told
	names   []string // what the verdict must name as cut

	before func(context.Context, *played) error // while the pod serves
	during func(context.Context, *played) error // once the stop is announced, or in another phase:
	phase  string
	grace  time.Duration // of the deletion, where it is not the 60 s that the agent was told
	told   bool          // the agent is told that grace
	direct bool          // nothing stands between the agent and what it reads: a dead process refuses connections

	args       []string // of the agent, beside the usual
	wrap       string   // the agent is started under it: see inPod
	full       bool     // the volume of its socket and journal is full
	only       []string // with this in flight only; empty: all
	nativeOnly bool
}

const disturbed = 4 * time.Second // how long a passing fault lasts

var (
	starved = []string{"clean", "deadline"} // it may read too rarely to prove a zero; then the budget decides
	working = []string{long, load}
)

// faults returns every fault, those of the agent first, then of its neighbours, of the pages it reads, and of people.
func faults() []fault {
	all := []fault{
		{name: "none"},
		{name: "agent paused", during: paused("agent")},
		{name: "agent restarted before", before: restarted(syscall.SIGTERM)},
		{name: "agent killed before", before: restarted(syscall.SIGKILL)},
		{name: "agent killed", during: killed("agent"), silent: true, cut: true, loses: true},
		{name: "agent has 1 % of a processor", before: limited("cpu"), outcome: starved},
		{name: "agent has 32 MiB", before: limited("memory")},
		{name: "agent has 24 files", wrap: "files"},
		{name: "agent has no output", wrap: "closed"},
		{name: "agent has a full disk", full: true},
		{name: "agent's clock an hour ahead", wrap: "clock", during: jumped(syscall.SIGUSR1)},
		{name: "agent's clock an hour back", wrap: "clock", during: jumped(syscall.SIGUSR2)},
		{name: "proxy paused", during: paused("proxy")},
		{name: "app paused", during: paused("app")},
		{name: "proxy killed", during: killed("proxy"), direct: true, outcome: []string{"proxy_died"}, loses: true, only: working},
		{name: "app killed", during: killed("app"), direct: true, outcome: []string{"app_died"}, loses: true, only: working},
		{name: "hooks twice", during: hooksAgain},
		{name: "fifty strangers' hooks", during: strangers},
		{name: "stray hook before", before: strayHook},
		{name: "configuration pushed", during: push},
		{name: "grace of 3 s, not told", grace: 3 * time.Second, cut: true, silent: true, outcome: []string{"deadline"}, loses: true, only: []string{long}},
		{name: "grace of 5 s", grace: 5 * time.Second, told: true, outcome: []string{"deadline"}, loses: true, only: []string{long}},
		{name: "grace of 12 s, not told", grace: 12 * time.Second, cut: true, silent: true, outcome: starved},
		{name: "operator finishes", during: verb("finish"), outcome: []string{"finished_by_operator"}, loses: true, only: working},
		{name: "operator drains and undrains before", before: drainUndrain},
		{name: "app's server restarted before", before: containerRestarted},
	}
	for _, side := range []string{"admin", "app"} {
		for _, how := range []string{"slow", "garbage", "huge", "cut", "half", "silent"} {
			all = append(all, fault{name: side + " " + how, during: between(side, how, disturbed)})
		}
	}
	for _, f := range []fault{
		{name: "agent paused", during: paused("agent")},
		{name: "proxy paused", during: paused("proxy")},
		{name: "app paused", during: paused("app")},
		{name: "proxy killed", during: killed("proxy"), direct: true, outcome: []string{"proxy_died"}, loses: true},
		{name: "app killed", during: killed("app"), direct: true, outcome: []string{"app_died"}, loses: true},
		{name: "configuration pushed", during: push},
		{name: "admin cut", during: between("admin", "cut", disturbed)},
		{name: "app cut", during: between("app", "cut", disturbed)},
	} {
		f.name, f.phase, f.only = f.name+", draining", "draining", working
		all = append(all, f)
	}
	return append(append(all, vanishings()...),
		fault{name: "admin cut for good", during: between("admin", "cut", 0), outcome: []string{"deadline"}, grace: 20 * time.Second, told: true, only: working},
		fault{name: "app cut for good", during: between("app", "cut", 0), outcome: []string{"deadline"}, grace: 20 * time.Second, told: true, only: working},
	)
}

// vanishings are clients whose connections are half open. A request that has begun is in flight, and nobody can tell that it has no end.
func vanishings() []fault {
	held := fault{outcome: []string{"deadline"}, names: []string{"proxy requests"}, grace: 20 * time.Second, told: true}
	holding := func(name string, from func(context.Context, *played, *leaving) error) fault {
		f := held
		f.name, f.before = name, vanished(from)
		return f
	}
	return []fault{
		{name: "client vanished, idle", before: vanished(afterOneAnswer)},
		{name: "client of HTTP 2 vanished, idle", before: vanished(afterOneAnswerHTTP2)},
		{name: "client vanished before its answer", before: vanished(beforeAnswer), names: []string{"bytes"}},
		holding("client vanished in its header", inHeader),
		holding("client vanished in its request", inRequest),
		holding("client vanished in its answer", inAnswer),
	}
}
