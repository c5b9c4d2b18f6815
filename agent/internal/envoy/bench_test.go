package envoy

import (
	"bytes"
	"os"
	"testing"
)

// BenchmarkClusters reads an answer of /clusters of a real Envoy.
func BenchmarkClusters(b *testing.B) {
	body, err := os.ReadFile("testdata/clusters-1.40.0.json")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, _, err := sumHosts(body); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStats reads an answer of /stats of a real Envoy.
func BenchmarkStats(b *testing.B) {
	body, err := os.ReadFile("testdata/stats-1.40.0.txt")
	if err != nil {
		b.Fatal(err)
	}
	wanted := []string{"listener.127.0.0.1_28081.downstream_cx_active", "listener.127.0.0.1_28081.downstream_cx_total"}
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := readStats(bytes.NewReader(body), wanted); err != nil {
			b.Fatal(err)
		}
	}
}
