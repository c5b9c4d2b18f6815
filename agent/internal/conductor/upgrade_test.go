package conductor

import (
	"os"
	"strings"
	"testing"
	"time"
)

// Journals as the first edition wrote them, beside an Envoy whose health check it had failed.
const (
	firstInMidDrain    = `{"time":"2026-11-28T07:00:25.600937465Z","envoy":"envoy-1","health_failed":true,"maintenance":false}`
	firstInMaintenance = `{"time":"2026-11-28T07:00:25.600937465Z","envoy":"envoy-1","health_failed":true,"maintenance":true}`
)

// An agent of the first edition is replaced in mid-drain: the second undoes what it did to this Envoy, and only to this one. The same
// stop, whose hooks kubelet does not call again, ends with SIGTERM.
func TestJournalOfTheFirstEditionInMidDrain(t *testing.T) {
	for epoch, want := range map[string]string{"envoy-1": "healthcheck_ok <nil>", "envoy-2": ""} {
		bubble(t, func(t *testing.T, p *pod) {
			p.epoch = epoch
			if err := os.WriteFile(p.cfg.World.Journal, []byte(firstInMidDrain), 0o600); err != nil {
				t.Fatal(err)
			}
			p.start()
			p.pass(time.Second)
			if got := strings.Join(p.acts, ", "); got != want {
				t.Errorf("%s: done %q, want %q", epoch, got, want)
			}
			if want != "" && p.journal() != "" {
				t.Errorf("after the undo the journal says %s", p.journal())
			}
			p.stopAll()
			p.code()
			if v := p.verdict(); v.Outcome != "clean" {
				t.Errorf("%s: outcome %s", epoch, v.Outcome)
			}
		})
	}
}

// Its maintenance goes on, and an operator undoes it as before.
func TestJournalOfTheFirstEditionInMaintenance(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		if err := os.WriteFile(p.cfg.World.Journal, []byte(firstInMaintenance), 0o600); err != nil {
			t.Fatal(err)
		}
		p.start()
		p.pass(time.Second)
		if ok, phase := p.c.Ready(); ok || phase != "maintenance" || strings.Contains(strings.Join(p.acts, ", "), "healthcheck_ok") {
			t.Errorf("ready %v in phase %s, done %v", ok, phase, p.acts)
		}
		p.next() // of the second edition, once more
		if _, phase := p.c.Ready(); phase != "maintenance" {
			t.Errorf("after another restart: phase %s, journal %s", phase, p.journal())
		}
		p.operate("undrain")
		if ok, phase := p.c.Ready(); !ok || phase != "serving" || p.journal() != "" {
			t.Errorf("after undrain: ready %v in phase %s, journal %q", ok, phase, p.journal())
		}
	})
}
