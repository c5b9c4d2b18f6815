package conductor

import (
	"context"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// lookAgain has Envoy described again, beside the readings: what is not known of it costs precision, never a reading.
func (c *Conductor) lookAgain() {
	select {
	case c.look <- struct{}{}:
	default:
	}
}

// describeAgain describes Envoy at first, whenever lookAgain says so, and until it has succeeded.
func (c *Conductor) describeAgain(ctx context.Context) {
	said, failed, text, doubt := "", 0, "", ""
	for {
		began := time.Now()
		limited, cancel := context.WithTimeout(ctx, descLimit)
		d, err := c.cfg.World.Describe(limited)
		cancel()
		var again <-chan time.Time
		if err != nil {
			again = time.After(max(backOff<<min(failed, 6), courtesy*time.Since(began)))
			failed++
			if problem := err.Error(); failed == saidAfter && problem != said {
				said = problem
				c.note("envoy cannot be described: " + problem)
			}
		} else {
			failed, said = 0, ""
			if d.Text != text {
				text = d.Text
				c.note(text)
			}
			if d.Doubt != "" && d.Doubt != doubt {
				c.warn(d.Doubt)
			}
			doubt = d.Doubt
			c.described(d)
		}
		select {
		case <-ctx.Done():
			return
		case <-c.look:
		case <-again:
		}
	}
}

func (c *Conductor) described(d Description) {
	last := c.epoch.Swap(&d.Epoch)
	if last == nil || *last != d.Epoch {
		d.Facts.Replaced = last != nil
		c.restore(d.Epoch)
	}
	c.send(drain.Input{Kind: drain.Described, Facts: d.Facts})
}
