package timeline_test

import (
	"os"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

// A log that an agent of the first edition wrote, of a whole stop, is read line by line.
func TestLogOfTheFirstEdition(t *testing.T) {
	file, err := os.Open("testdata/first-edition.log")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var phases []string
	var verdict *timeline.Verdict
	for line, err := range timeline.Decode(file) {
		switch {
		case err != nil:
			t.Errorf("%v", err)
		case line.Event != nil && line.Event.From != line.Event.To:
			phases = append(phases, line.Event.To)
		case line.Verdict != nil:
			verdict = line.Verdict
		}
	}
	if got := strings.Join(phases, " "); got != "confirming announcing draining settling stopping finished" {
		t.Errorf("phases %s", got)
	}
	if verdict == nil || verdict.Outcome != "clean" || verdict.TotalMS != 3464 || verdict.Trigger != "hook proxy, hook agent" || len(verdict.Cut) != 0 {
		t.Errorf("verdict %+v", verdict)
	}
}
