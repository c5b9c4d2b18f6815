package main

import (
	"strings"
	"testing"
)

// A page has a row for each who was measured, and says where and when; who was not measured has none.
func TestPage(t *testing.T) {
	got := page([]figure{
		{Name: "processor time", Unit: "thousandths of a core", Goal: "≤ 20", Rows: []row{{"drain-agent", []float64{17, 14, 16.25}}, {"nobody", nil}, {"sleep", []float64{1, 2}}}},
		{Name: "nothing", Unit: "s"},
	}, "What it costs", "go run ./scripts/bench --only cost", "2026-01-02", "2 cores")
	for _, want := range []string{
		"\n# What it costs\n\nMeasured on 2026-01-02 with `go run ./scripts/bench --only cost`, on 2 cores.",
		"| figure | who | median | min … max | n | goal |\n| --- | --- | --- | --- | --- | --- |\n" +
			"| processor time, thousandths of a core | drain-agent | 16.2 | 14 … 17 | 3 | ≤ 20 |\n|  | sleep | 1.5 | 1 … 2 | 2 |  |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "nobody") || strings.Contains(got, "nothing") {
		t.Errorf("a row of nothing in\n%s", got)
	}
}
