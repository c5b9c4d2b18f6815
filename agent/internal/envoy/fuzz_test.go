package envoy

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// captured returns what real Envoys answered, by file name in testdata.
func captured(tb testing.TB, pattern string) map[string][]byte {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(files) == 0 {
		tb.Fatalf("no %s in testdata: %v", pattern, err)
	}
	bodies := make(map[string][]byte)
	for _, file := range files {
		if bodies[file], err = os.ReadFile(file); err != nil {
			tb.Fatal(err)
		}
	}
	return bodies
}

func sumHosts(body []byte) (sums *hostSums, clusters int, err error) {
	sums = &hostSums{rule: &rule{}, apart: map[string]int64{}}
	err = readClusters(bytes.NewReader(body), func(head clusterHead) bool { clusters++; return sums.want(head) }, sums.add)
	return sums, clusters, err
}

// readWhole parses a body and every cut of it: only the whole one may be believed.
func readWhole(t *testing.T, file string, body []byte, parse func([]byte) error) {
	t.Helper()
	if err := parse(body); err != nil {
		t.Errorf("%s: %v", file, err)
	}
	end := len(bytes.TrimSpace(body))
	for cut := range end {
		if err := parse(body[:cut]); err == nil {
			t.Fatalf("%s: %d of %d bytes were taken for a reply", file, cut, end)
		}
	}
}

func TestCapturedReplies(t *testing.T) {
	t.Parallel()
	for file, body := range captured(t, "clusters-*.json") {
		if sums, clusters, err := sumHosts(body); err != nil || clusters != 3 || sums.active != 0 {
			t.Errorf("%s: %+v, %d clusters, %v", file, sums, clusters, err)
		}
		readWhole(t, file, body, func(b []byte) error { _, _, err := sumHosts(b); return err })
	}
	wanted := []string{"listener.127.0.0.1_28081.downstream_cx_active", "listener.127.0.0.1_28081.downstream_cx_total", "http.hidden.downstream_rq_active"}
	for file, body := range captured(t, "stats-*.txt") {
		values, err := readStats(bytes.NewReader(body), wanted)
		if _, hidden := values[wanted[2]]; err != nil || hidden || values[wanted[1]] != 1 {
			t.Errorf("%s: %v, %v", file, values, err)
		}
	}
	for file, body := range captured(t, "listeners-*.json") {
		var all []served
		err := readConfigs(bytes.NewReader(body), func(r struct {
			Listener *listener `json:"listener"`
		},
		) {
			all = append(all, served{r.Listener, r.Listener.services()})
		})
		n := namesOf(all, all, known{})
		if err != nil || len(n.clusters) != 2 || len(n.prefixes) != 1 || n.prefixes[0] != "ingress" || !n.tcp || !n.complete {
			t.Errorf("%s: %+v, %v", file, n, err)
		}
	}
}

func FuzzClusters(f *testing.F) {
	for _, body := range captured(f, "clusters-*.json") {
		f.Add(body)
	}
	f.Add([]byte(`{"cluster_statuses":[{"name":"a","host_statuses":[{"stats":[{"name":"rq_active","value":"18446744073709551615","type":"GAUGE"}]}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if sums, _, err := sumHosts(body); err == nil && (sums.active < 0 || sums.total < 0) {
			t.Errorf("%+v", sums)
		}
	})
}

func FuzzStats(f *testing.F) {
	for _, body := range captured(f, "stats-*.txt") {
		f.Add(body)
	}
	wanted := []string{"http.ingress.downstream_rq_active"}
	f.Fuzz(func(t *testing.T, body []byte) {
		values, err := readStats(bytes.NewReader(body), wanted)
		for name, n := range values {
			if err == nil && (n < 0 || name != wanted[0]) {
				t.Errorf("%s: %d", name, n)
			}
		}
	})
}

func FuzzConfig(f *testing.F) {
	for _, body := range captured(f, "listeners-*.json") {
		f.Add(body)
	}
	f.Fuzz(func(_ *testing.T, body []byte) {
		var all []served
		_ = readConfigs(bytes.NewReader(body), func(r struct {
			Listener *listener `json:"listener"`
		},
		) {
			if r.Listener != nil {
				all = append(all, served{r.Listener, r.Listener.services()})
			}
		})
		picked, _ := inbound(all, destinations{}, true)
		namesOf(picked, all, known{})
	})
}

func FuzzServerInfo(f *testing.F) {
	f.Add([]byte(`{"version":"x/1.40.0/Clean/RELEASE/BoringSSL","state":"LIVE","node":{"metadata":{"a":{}}},"command_line_options":{"drain_time":"600s"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		info, d := serverInfo{}, Description{}
		if err := info.read(bytes.NewReader(body)); err != nil {
			return
		}
		if d.fill(&info); d.Version == "" {
			t.Errorf("version lost from %q", info.Version)
		}
	})
}
