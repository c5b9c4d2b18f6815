package main

import (
	"strings"
	"testing"
)

// Every flag that does nothing without a ledger is an error beside --store=none, all of them at once.
func TestFlagsWithoutALedger(t *testing.T) {
	_, err := parse([]string{"--agent-image=a:1", "--namespace=n", "--store=none", "--api=:8082", "--report=https://c.n.svc/report", "--report-client-ca=/ca.crt"})
	for _, flag := range []string{"--api", "--report", "--report-client-ca"} {
		if err == nil || !strings.Contains(err.Error(), flag+" does nothing with --store=none") {
			t.Errorf("%s: %v", flag, err)
		}
	}
	if _, err := parse([]string{"--agent-image=a:1", "--namespace=n", "--store=none"}); err != nil {
		t.Error(err)
	}
}
