package conductor

import (
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
)

// A line of a decision shows the readings on which it was decided, and when, however late a busy machine writes it. What belongs to no
// decision shows the moment.
func TestALateLineShowsWhatWasDecidedOn(t *testing.T) {
	p := newPod(t, t.TempDir())
	c := New(p.cfg)
	c.state.Now = 5 * time.Second
	c.state.Proxy.InFlight = drain.Reading{Count: drain.Known(3), At: c.state.Now, Every: 25 * time.Millisecond}
	c.start = time.Now().Add(-time.Minute) // it is written 55 s later
	c.deciding = true
	c.record(timeline.Event{Level: timeline.LevelInfo, Reason: "decided"})
	c.deciding = false
	c.record(timeline.Event{Level: timeline.LevelInfo, Reason: "noticed"})
	decided, noticed := p.lines[0].Event, p.lines[1].Event
	if decided.ElapsedMS != 5000 || decided.ProxyInFlight == nil || *decided.ProxyInFlight != 3 {
		t.Errorf("decided: %s", decided.Text())
	}
	if after := noticed.Time.Sub(decided.Time); after < 54*time.Second || noticed.ProxyInFlight != nil {
		t.Errorf("noticed %v after it: %s", after, noticed.Text())
	}
}
