package main

import (
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

func TestOnlyTheAgentsPartDecidesHowTheDemoEnds(t *testing.T) {
	clean := stop{Seconds: 1, Verdict: &timeline.Verdict{Outcome: "clean"}}
	lossy := openloop.Report{Requests: 10, Failed: 1}
	for name, c := range map[string]struct {
		results []result
		want    string // in the error; empty for none
	}{
		"losses without the agent":    {[]result{{Part: "nothing", Load: lossy}, {Part: "agent", Stops: []stop{clean}}}, ""},
		"a loss with the agent":       {[]result{{Part: "agent", Load: lossy, Stops: []stop{clean}}}, "1 of 10 requests"},
		"a stop without a verdict":    {[]result{{Part: "agent", Stops: []stop{clean, {Seconds: 1}}}}, "pod 2 left no verdict"},
		"the agent's part not played": {[]result{{Part: "sleep", Load: lossy}}, ""},
	} {
		err := judge(c.results)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestTheReportNamesWhatWasNotClean(t *testing.T) {
	var out strings.Builder
	report(&out, []result{{
		Part: "agent",
		Load: openloop.Report{Requests: 7, Failed: 3, ByKind: map[string]int{"eof": 1, "503": 2}},
		Stops: []stop{
			{Seconds: 2.04, Verdict: &timeline.Verdict{Outcome: "clean"}},
			{Seconds: 9, Verdict: &timeline.Verdict{Outcome: "deadline", Reason: "the app still held 1"}},
		},
	}}, 12*time.Second)
	for _, want := range []string{"2.0, 9.0", "503 2, eof 1", "pod 2 stopped with deadline: the app still held 1", "took 9.0 s"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}
