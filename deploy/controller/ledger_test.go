package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/drain-agent/drain-agent/deploy/controller/internal/ledger"
	"github.com/drain-agent/drain-agent/scripts/pgtest"
)

// A hundred pods stop one after the other while the controller is killed and started at random, between any two steps, and ten more while
// nobody watches: each has one row, with what its agent said if the controller ran while the API server had it, else unknown.
func TestLedgerAtTheAPIServer(t *testing.T) {
	s := apiServer(t)
	ns := s.namespace(t, nil, nil)
	kept := s.sqlite(t)
	r := kept.begin()
	pods := s.run(t, ns, s.workload(t, ns), 100)
	remembered(t, kept, ns, len(pods))
	random := rand.New(rand.NewPCG(7, 0)) //nolint:gosec // reproducible on purpose
	killed := map[*stopping]bool{}
	restart := func(down func()) {
		if random.IntN(2) == 0 {
			_ = r.process.Process.Kill() // no time for anything
		}
		r.stop()
		down()
		rows := rowsOf(t, kept, ns)
		for _, p := range pods { // what it had not written when it ended it cannot know
			killed[p] = killed[p] || !rows[string(p.UID)]
		}
		r = kept.begin()
	}
	for _, p := range pods {
		s.stop(t, p, func() {
			if random.IntN(25) == 0 {
				restart(func() {})
			}
		})
	}
	more := s.run(t, ns, pods[0].OwnerReferences[0], 10)
	remembered(t, kept, ns, len(more))
	restart(func() { // all of these stop while nobody watches
		for _, p := range more {
			killed[p] = true
			s.stop(t, p, func() {})
		}
	})
	pods = append(pods, more...)
	eventually(t, "each pod has a row", func() error {
		if n := len(all(t, kept.api, ns).Drains); n != len(pods) {
			return fmt.Errorf("%d rows of %d", n, len(pods))
		}
		return nil
	})
	verdicts, unknowns := compare(t, all(t, kept.api, ns), pods, func(p *stopping) bool { return !killed[p] })
	if unknowns < 30 {
		t.Errorf("%d unknown: of 110 pods 20 were killed and 10 stopped unseen", unknowns)
	}
	t.Logf("%d verdicts, %d unknown", verdicts, unknowns)
	text := fetch(t, "http://"+kept.metrics+"/metrics")
	for _, line := range []string{
		fmt.Sprintf(`drain_controller_stops_total{kind="Deployment",namespace=%q,outcome="unknown",workload="web"} %d`, ns, unknowns),
		fmt.Sprintf(`drain_controller_stop_seconds_count{kind="Deployment",namespace=%q,workload="web"} %d`, ns, verdicts),
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("metrics lack %s", line)
		}
	}
	var rollouts struct {
		Rollouts []ledger.Rollout `json:"rollouts"`
	}
	if err := json.Unmarshal([]byte(fetch(t, "http://"+kept.api+"/api/v1/rollouts?namespace="+ns)), &rollouts); err != nil {
		t.Fatal(err)
	}
	if len(rollouts.Rollouts) != 1 || rollouts.Rollouts[0].Stops != int64(len(pods)) || rollouts.Rollouts[0].Outcomes["unknown"] != unknowns {
		t.Errorf("rollouts %+v", rollouts.Rollouts)
	}
}

// Two replicas with one database: one row, one log line, one Event and one count for each stop, whoever is killed meanwhile.
func TestLedgerOfTwoReplicas(t *testing.T) {
	s := apiServer(t)
	ns := s.namespace(t, nil, nil)
	name := pgtest.Start(t).NewDatabase()
	var logs []*running
	api := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	begin := func(flags ...string) *running {
		metrics := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		r := s.controller(t, append(flags, "--store="+name, "--metrics="+metrics, "--unknown-after=2s")...)
		watches(t, metrics)
		logs = append(logs, r)
		return r
	}
	begin("--api=" + api)
	second := begin()
	store, err := ledger.Open(t.Context(), name, ledger.Limits{Age: time.Hour, Rows: 1000, Workloads: 10}) // to look into it
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	pods := s.run(t, ns, s.workload(t, ns), 20)
	remembered(t, store, ns, len(pods))
	for i, p := range pods {
		if i == 5 {
			_ = second.process.Process.Kill()
			second.stop()
		}
		if i == 15 {
			remembered(t, store, ns, 5) // the other one knows of the rest: it would become unknown if it did not
			second = begin()
		}
		s.stop(t, p, func() {})
	}
	eventually(t, "each pod has a row", func() error {
		if n := len(all(t, api, ns).Drains); n != len(pods) {
			return fmt.Errorf("%d rows of %d", n, len(pods))
		}
		return nil
	})
	verdicts, unknowns := compare(t, all(t, api, ns), pods, func(*stopping) bool { return true })
	if verdicts != 16 || unknowns != 4 {
		t.Errorf("%d verdicts, %d unknown; one replica watched all the time", verdicts, unknowns)
	}
	lines := 0
	for _, r := range logs {
		lines += strings.Count(r.log.String(), `"msg":"stop"`)
	}
	if lines > len(pods) || lines < len(pods)-1 { // the killed one may have died between row and line
		t.Errorf("%d log lines for %d stops", lines, len(pods))
	}
	want := map[string]int{"DrainNotClean": 4, "DrainUnknown": 4}
	eventually(t, "there are Events", func() error {
		var events corev1.EventList
		if err := s.client.List(t.Context(), &events, client.InNamespace(ns)); err != nil {
			return err
		}
		got := map[string]int{}
		for _, e := range events.Items {
			if e.InvolvedObject.Kind != "Deployment" || e.InvolvedObject.Name != "web" || e.InvolvedObject.UID == "" {
				t.Errorf("Event on %+v", e.InvolvedObject)
			}
			got[e.Reason]++
		}
		if got["DrainUnknown"] != want["DrainUnknown"] || got["DrainNotClean"] < want["DrainNotClean"]-1 || len(events.Items) > 8 {
			return fmt.Errorf("%v, want %v", got, want)
		}
		return nil
	})
	second.stop()
}

// BenchmarkLedgerPods is what 2,000 pods with an agent cost the controller (in the test's binary): the memory it has afterwards.
func BenchmarkLedgerPods(b *testing.B) {
	s := apiServer(b)
	ns := s.namespace(b, nil, nil)
	metrics := fmt.Sprintf("127.0.0.1:%d", freePort(b))
	for i := range 2000 {
		s.create(b, ns, fmt.Sprintf("metadata: {name: web-%d}\nspec:\n  nodeName: node-%d\n  containers:\n  - {name: app, image: a}\n  - {name: drain-agent, image: %s}\n", i, i%50, agentImage))
	}
	r := s.controller(b, "--metrics="+metrics)
	eventually(b, "2,000 pods are watched", func() error {
		if !strings.Contains(fetch(b, "http://"+metrics+"/metrics"), "\ndrain_controller_pods_watched 2000\n") {
			return errNotYet
		}
		return nil
	})
	for _, line := range []string{"VmRSS", "VmHWM", "RssAnon"} {
		b.Logf("%s: %s", line, status(b, r.process.Process.Pid, line))
	}
	for b.Loop() {
		fetch(b, "http://"+metrics+"/metrics")
	}
}
