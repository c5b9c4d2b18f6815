package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const printed = `=== RUN   TestAppFirstThenProxy
--- PASS: TestAppFirstThenProxy (9.00s)
    --- PASS: TestAppFirstThenProxy/1.36.2_native (5.00s)
    --- FAIL: TestAppFirstThenProxy/1.40.0_native (5.00s)
    --- PASS: TestAppFirstThenProxy/native_rows_1_and_2_on_1.40.0 (5.00s)
--- PASS: TestWithAFakeAdmin (1.00s)
FAIL
FAIL	github.com/drain-agent/drain-agent/agent/e2e	9.1s
--- PASS: TestOfTheAdapterAlone (0.00s)
--- PASS: TestNames (0.10s)
    --- PASS: TestNames/aa/1.41.0-dev/Clean_with_45_s (0.10s)
    --- PASS: TestNames/aa/1.41.0/Clean (0.10s)
--- PASS: TestReal (0.00s)
    --- PASS: TestReal/1.36.2 (0.20s)
PASS
ok  	github.com/drain-agent/drain-agent/agent/internal/envoy	1.0s
--- PASS: TestOfAnotherPackage (0.00s)
ok  	github.com/drain-agent/drain-agent/deploy/controller	1.0s
cluster: Kubernetes v1.34.4 is built: cache/kubernetes-v1.34.4
mesh: Istio v1.2.3 is built: cache/istio-v1.2.3
cluster: node node1 is Ready after 9 s; next: kubectl
images: the Envoy of the manifests is 1.39.3
--- SKIP: TestIstioRollout (0.00s)
--- PASS: TestRollout (60.00s)
--- PASS: TestWithoutANode (0.00s)
ok  	github.com/drain-agent/drain-agent/scripts/e2e	143.6s
mesh: Istio is ready after 40 s
--- PASS: TestIstioRollout (143.00s)
    --- PASS: TestIstioRollout/native (46.11s)
    --- PASS: TestIstioRollout/classic (46.11s)
ok  	github.com/drain-agent/drain-agent/scripts/e2e	143.6s
--- PASS: TestControlPlanes (143.00s)
    --- PASS: TestControlPlanes/Envoy_Gateway_v1.9.1,_Envoy_1.39.1 (46.11s)
        --- PASS: TestControlPlanes/Envoy_Gateway_v1.9.1,_Envoy_1.39.1/drain-agent (46.11s)
        --- PASS: TestControlPlanes/Envoy_Gateway_v1.9.1,_Envoy_1.39.1/as_it_comes (46.11s)
ok  	github.com/drain-agent/drain-agent/scripts/e2e	143.6s
cluster: down`

// The log itself says what ran on what; results of other combinations stay.
func TestRecord(t *testing.T) {
	root := t.TempDir()
	before := header + "-\t1.36.2\t-\t1\t0\told\n" + "v1.33.0\t1.40.0\t-\t7\t0\told\n"
	for name, text := range map[string]string{resultsFile: before, pageFile: ""} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := readLog(strings.NewReader(printed), "new")
	if err != nil || len(rows) != 5 {
		t.Fatal(rows, err)
	}
	if err := record(t.Context(), root, strings.NewReader(printed)); err == nil || !strings.Contains(err.Error(), "git") {
		t.Fatalf("a folder that is no repository: %v", err)
	}
	merged, err := merge(before, rows)
	if err != nil {
		t.Fatal(err)
	}
	const want = header + "-\t1.40.0\t-\t1\t1\tnew\n-\t1.36.2\t-\t2\t0\tnew\n" +
		"v1.33.0\t1.40.0\t-\t7\t0\told\nv1.34.4\t1.39.3\t-\t1\t0\tnew\nv1.34.4\t1.39.1\tEnvoy Gateway v1.9.1\t2\t0\tnew\nv1.34.4\t1.40.0\tIstio v1.2.3\t2\t0\tnew\n"
	if got := results(merged); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, err := readLog(strings.NewReader("ok\n"), "new"); err == nil {
		t.Error("a log without tests passes for results")
	}
}

// The page is what the results say.
func TestThePageIsTheResults(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("../..", resultsFile))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := readResults(string(text))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join("../..", pageFile))
	if want := page(rows); err != nil || string(got) != want {
		t.Errorf("%s is not what %s says, make compatibility writes both (%v); want\n%s", pageFile, resultsFile, err, want)
	}
}
