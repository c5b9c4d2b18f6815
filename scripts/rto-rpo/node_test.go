//go:build e2e

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The article's test of data consistency, on a real node: while a generator pays, every replica is deleted again and
// again with no grace at all. The generator's ledger check, the logs and the metrics must all say that nothing is wrong.
//
//	APP_IMAGE     image of the app, default ghcr.io/drain-agent/drain-agent-app:v0.1.0-dev
//	APP_DURATION  how long to pay, default 60s
func TestForcedDeletionsLoseNothing(t *testing.T) {
	image, duration := env("APP_IMAGE", "ghcr.io/drain-agent/drain-agent-app:v0.1.0-dev"), env("APP_DURATION", "60s")
	s := settings{kubectl: env("KUBECTL", "scripts/cluster/cluster kubectl"), namespace: "rto-rpo-test"}
	p, err := onCluster(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	c := p.(*cluster)
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := c.run(t.Context(), "", args...)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	defer func() { _, _ = c.run(t.Context(), "", "delete", "namespace", s.namespace, "--wait=false") }()
	kubectl("set", "image", "deployment/payment-service", "app="+image)
	kubectl("rollout", "status", "deployment/payment-service", "--timeout=120s")
	ip := kubectl("get", "service", "payment-service", "-o", "jsonpath={.spec.clusterIP}")
	kubectl("delete", "pod", "payment-generator", "--ignore-not-found")
	kubectl("run", "payment-generator", "--image="+image, "--image-pull-policy=Never", "--restart=Never", "--",
		"client", "--target="+ip+":8080", "--rate=10", "--duration="+duration, "--retry-for=60s")

	phase := func() string { return kubectl("get", "pod", "payment-generator", "-o", "jsonpath={.status.phase}") }
	var logs []string
	deletions := 0
	for deadline := time.Now().Add(10 * time.Minute); phase() != "Succeeded" && phase() != "Failed"; {
		if time.Now().After(deadline) {
			t.Fatal("the generator does not end")
		}
		<-time.After(5 * time.Second)
		logs = append(logs, kubectl("logs", "-l", "app=payment-service", "--tail=-1", "--ignore-errors")) // some are still starting
		if phase() == "Running" {
			kubectl("delete", "pod", "-l", "app=payment-service", "--force", "--grace-period=0")
			deletions++
		}
	}
	report := kubectl("logs", "payment-generator", "--tail=8")
	t.Logf("%d times every replica was deleted\n%s", deletions, report)
	if got := phase(); got != "Succeeded" || deletions < 2 || !strings.Contains(report, " 0 lost, 0 doubled") {
		t.Errorf("generator %s after %d deletions", got, deletions)
	}
	kubectl("rollout", "status", "deployment/payment-service", "--timeout=120s")
	<-time.After(12 * time.Second) // one reconciliation at least, by a new leader
	logs = append(logs, kubectl("logs", "-l", "app=payment-service", "--tail=-1"))
	if n := strings.Count(strings.Join(logs, "\n"), "inconsistency"); n > 0 {
		t.Errorf("%d inconsistencies in the logs", n)
	}
	checks, found := 0.0, 0.0
	for _, pod := range strings.Fields(kubectl("get", "pods", "-l", "app=payment-service", "-o", "jsonpath={.items[*].metadata.name}")) {
		for range 2 { // the first scrape releases what happened before it
			text := kubectl("get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:8090/proxy/metrics", s.namespace, pod))
			checks, found = checks+sum(t, text, "data_consistency_checks_total"), found+sum(t, text, "data_inconsistencies_detected_total")
		}
	}
	if found != 0 || checks == 0 {
		t.Errorf("metrics: %v inconsistencies in %v checks", found, checks)
	}
}

func sum(t *testing.T, text, metric string) (total float64) {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, metric+"{") {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
			if err != nil {
				t.Fatal(err)
			}
			total += v
		}
	}
	return total
}

func env(name, absent string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return absent
}
