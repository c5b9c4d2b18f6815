package conductor

import (
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

// What disturbs a drain is a warning before any drain, once, and again when it has become another one.
func TestADoubtAboutEnvoyIsAWarningOnce(t *testing.T) {
	bubble(t, func(t *testing.T, p *pod) {
		p.doubt = "drain-time-s 7 is short"
		p.start()
		again := func() {
			p.set(func() { p.proxyLook.Changed = true })
			p.pass(time.Minute)
			p.set(func() { p.proxyLook.Changed = false })
		}
		again()
		p.sayOnce("drain-time-s 7 is short")
		p.set(func() { p.doubt = "drain-time-s 8 is short" })
		again()
		p.sayOnce("drain-time-s 8 is short")
		if len(p.describes) < 3 {
			t.Errorf("described %d times: the test sees nothing", len(p.describes))
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, line := range p.lines {
			if line.Event != nil && strings.Contains(line.Event.Reason, "is short") && line.Event.Level != timeline.LevelWarn {
				t.Errorf("%q has the level %v", line.Event.Reason, line.Event.Level)
			}
		}
	})
}
