package main

import (
	"slices"
	"testing"
)

// What go test prints of the webhook's benchmark is found, whatever the number of processors.
func TestAdmissionFigures(t *testing.T) {
	const printed = "goos: linux\nBenchmarkPods/with-2         \t    1500\t  20000123 ns/op\t        41.52 MiB\t         4.103 ms/p50\t        12.80 ms/p99\n" +
		"BenchmarkPods/without      \t    1500\t  20000017 ns/op\t        41.60 MiB\t         1.900 ms/p50\t         6.000 ms/p99\n" +
		"BenchmarkPods/answer-2     \t    1500\t  20000017 ns/op\t        41.60 MiB\t         1.100 ms/p50\t         5.000 ms/p99\nPASS\n"
	var got [][]string
	for _, m := range admissionFigures.FindAllStringSubmatch(printed, -1) {
		got = append(got, m[1:])
	}
	want := [][]string{{"with", "41.52", "4.103", "12.80"}, {"without", "41.60", "1.900", "6.000"}, {"answer", "41.60", "1.100", "5.000"}}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%q, want %q", got, want)
	}
}
