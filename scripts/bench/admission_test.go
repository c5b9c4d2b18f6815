package main

import (
	"reflect"
	"testing"
)

// What go test prints of the webhook's benchmark is found, whatever the number of processors.
func TestAdmissionFigures(t *testing.T) {
	const printed = "goos: linux\nBenchmarkPods/with-2         \t    1500\t  20000123 ns/op\t         4.103 ms/p50\t        12.80 ms/p99\n" +
		"BenchmarkPods/answer      \t    1500\t  20000017 ns/op\t        41.60 MiB/working-set\t         1.100 ms/p50\t         5.000 ms/p99\nPASS\n"
	want := map[string]map[string]float64{
		"with":   {"ns/op": 20000123, "ms/p50": 4.103, "ms/p99": 12.8},
		"answer": {"ns/op": 20000017, "MiB/working-set": 41.6, "ms/p50": 1.1, "ms/p99": 5},
	}
	if got := admissionFigures(printed); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
