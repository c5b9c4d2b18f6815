package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/cached"
	"github.com/drain-agent/drain-agent/scripts/demo/balancer"
	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

// What each client sends; GOAWAY_REQUESTS=50000 is the long form, nine minutes.
const (
	goawayRequests = 5000
	goawayRate     = 100 // a second and client: this is about moving, not about speed
	goawayShared   = 4   // connections of each client
)

// moved is what became of one client's requests, as it says itself, and what the tap before it saw on the wire.
type moved struct {
	Requests int            `json:"requests"`
	Failed   int            `json:"failed"`
	ByKind   map[string]int `json:"failed_by_kind"`
}

// goawayClients are the clients by name. None sends a request twice; each returns when it has sent n and has all answers.
func goawayClients() map[string]func(t *testing.T, target string, n int) (moved, error) {
	return map[string]func(*testing.T, string, int) (moved, error){
		"grpc-go":         func(t *testing.T, target string, n int) (moved, error) { return inGo(t, openloop.GRPC, target, n) },
		"net/http HTTP/2": func(t *testing.T, target string, n int) (moved, error) { return inGo(t, openloop.HTTP2, target, n) },
		"grpc in Python":  inPython,
	}
}

// Pods are replaced one after another under clients that keep their HTTP/2 connections: each sees GOAWAY on every connection to a
// pod that leaves, and moves without losing or repeating a request.
func TestClientsMoveOnGoaway(t *testing.T) {
	requests := goawayRequests
	if text := os.Getenv("GOAWAY_REQUESTS"); text != "" {
		var err error
		if requests, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	service, err := balancer.Listen(t.Context(), "127.0.0.1:0", balancer.KubeProxy())
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	r := &replacement{t: t, service: service}
	r.add()
	r.add()

	var clients sync.WaitGroup
	results, taps := map[string]*moved{}, map[string]*tap{}
	for name, send := range goawayClients() {
		result, tap := new(moved), listenTap(t, service.Addr())
		results[name], taps[name] = result, tap
		clients.Go(func() {
			var err error
			if *result, err = send(t, tap.addr(), requests); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	sent := make(chan struct{})
	go func() {
		clients.Wait()
		close(sent)
	}()
	stops := 0
	for over := false; !over; {
		r.replace()
		select {
		case <-sent:
			over = true
		default:
			stops++ // all of it while clients sent
		}
	}
	for name, result := range results {
		seen := taps[name].close()
		t.Logf("%-16s %d requests, %d failed %v; %d pods replaced meanwhile; %d connections, %d told by GOAWAY, %d streams",
			name, result.Requests, result.Failed, result.ByKind, stops, seen.connections, seen.told, seen.streams)
		if result.Requests < requests || result.Failed != 0 {
			t.Errorf("%s: %d of %d requests failed, want 0 of %d", name, result.Failed, result.Requests, requests)
		}
		if seen.streams != result.Requests {
			t.Errorf("%s: %d streams on the wire for %d requests, want as many: nothing is sent twice", name, seen.streams, result.Requests)
		}
		if stops < 2 || seen.told == 0 || seen.connections-seen.told > goawayShared {
			t.Errorf("%s: %d of %d connections were told to go in %d stops, want all but the last %d", name, seen.told, seen.connections, stops, goawayShared)
		}
	}
}

// replacement is a service whose pods are replaced in turn.
type replacement struct {
	t       *testing.T
	service *balancer.Balancer
	pods    []*under
	started int
}

func (r *replacement) add() {
	u := start(r.t, setup{})
	r.service.Add(strconv.Itoa(r.started), u.addr(inbound))
	r.pods = append(r.pods, u)
	r.started++
}

// replace starts a pod and stops the oldest one, as a rollout does.
func (r *replacement) replace() {
	r.t.Helper()
	r.add()
	oldest := r.pods[0]
	r.pods = r.pods[1:]
	oldest.Delete(nil)
	r.service.Remove(strconv.Itoa(r.started - 1 - len(r.pods)))
	oldest.wait()
	oldest.verdict("clean")
	oldest.Close()
}

// inGo sends with one of our own load generator's clients.
func inGo(t *testing.T, client openloop.Client, target string, n int) (moved, error) {
	plan := openloop.DefaultPlan(target)
	plan.Rate, plan.Clients, plan.Shared = goawayRate, map[openloop.Client]float64{client: 1}, goawayShared
	plan.Work = []openloop.Work{{Share: 0.98, Takes: 5 * time.Millisecond}, {Share: 0.02, Takes: 500 * time.Millisecond}}
	load, err := openloop.Start(t.Context(), plan)
	if err != nil {
		return moved{}, err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for load.Snapshot().Sent < n && t.Context().Err() == nil {
		<-tick.C
	}
	report := load.Stop()
	return moved{report.Requests, report.Failed, report.ByKind}, nil
}

// inPython sends with gRPC's C core, which clients in Python, C++, C#, PHP and Ruby share, from a virtual environment in the user's cache that the first run makes.
func inPython(t *testing.T, target string, n int) (report moved, err error) {
	python, err := cached.Python(t.Context(), "grpcio", "1.85.1")
	if err != nil {
		return report, err
	}
	cmd := exec.CommandContext(t.Context(), python, "testdata/goaway_client.py", target, strconv.Itoa(n), strconv.Itoa(goawayRate), strconv.Itoa(goawayShared))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return report, fmt.Errorf("%v: %w", cmd.Args, err)
	}
	return report, json.Unmarshal(out, &report)
}
