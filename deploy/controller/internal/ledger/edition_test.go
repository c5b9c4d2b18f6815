package ledger

import (
	"os"
	"strings"
	"testing"
)

// What an agent of the first edition, built from its last commit, left in its termination log after a stop with a real Envoy, and what it
// answered in mid-drain.
func TestAgentsOfTheFirstEdition(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile("testdata/first-edition/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	message := read("message.json")
	v := readVerdict(message)
	if v == nil || !v.Whole || v.Outcome != "clean" || v.TotalMS == nil || *v.TotalMS != 7729 || v.Late == nil || *v.Late != 0 || v.Cut == nil || *v.Cut != 0 {
		t.Errorf("its verdict: %+v", v)
	}
	if v := readVerdict(message[:300]); v == nil || v.Whole || v.Outcome != "clean" || v.Late != nil {
		t.Errorf("its verdict, cut off: %+v", v)
	}
	status := read("status.json")
	before, events, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(status), "]}"), `"events":[`)
	for name, text := range map[string]string{"as it was": status, "after a long life": before + `"events":[` + (strings.Repeat(events+",", 60) + events)[:60<<10]} {
		s, err := readStatus(text)
		if err != nil || s.Phase != "draining" || s.LeftMS == nil || *s.LeftMS != 34024 || s.Waiting != "proxy in flight" || s.inFlight() != "1" {
			t.Errorf("its status %s: %+v %v", name, s, err)
		}
	}
	if _, err := readStatus("<html>"); err == nil {
		t.Error("what is no status is read as one")
	}
}
