package drain

import "time"

// Budget is how one grace period is divided. All times count from T0, the first fact of the stop.
type Budget struct {
	Floor  time.Duration // the least grace period that holds one drain with nothing in flight
	Stop   time.Duration // when the first hook is answered at the latest
	Hard   time.Duration // when the last hook is answered at the latest
	Scale  float64       // 1, or by how much margin and stop shares had to shrink
	Margin time.Duration // after scaling
}

// Budget divides the grace period. A grace period below the floor shrinks the margin and the stop shares in proportion.
func (p *Policy) Budget() Budget {
	shares := p.shares()
	b := Budget{Floor: p.ConfirmWindow + p.Propagation + p.Settle + shares + p.Margin, Scale: 1}
	if p.Grace < b.Floor {
		b.Scale = float64(p.Grace) / float64(b.Floor)
	}
	b.Margin = scaled(p.Margin, b.Scale)
	b.Hard = p.Grace - b.Margin
	b.Stop = b.Hard - scaled(shares, b.Scale)
	return b
}

// confirmWindow is how long one fact waits for a second one: a grace period may be over before.
func (p *Policy) confirmWindow() time.Duration { return min(p.ConfirmWindow, p.Budget().Hard) }

// lateHooks is how long our own SIGTERM alone waits: exec hooks of regular containers may need longer than confirm-window to begin.
func (p *Policy) lateHooks() time.Duration {
	return min(p.ConfirmWindow+400*time.Millisecond, p.Budget().Hard)
}

// shares is the sum of the stages' stop shares; a stage needs the longest of its containers'.
func (p *Policy) shares() time.Duration { return p.sharesAfter(-1) }

func (p *Policy) sharesAfter(stage int) time.Duration {
	var sum time.Duration
	for k, stages := stage+1, p.Stages(); k < stages; k++ {
		sum += p.share(k)
	}
	return sum
}

func (p *Policy) share(stage int) time.Duration {
	var longest time.Duration
	for i := range p.Containers {
		if p.Containers[i].Stage == stage {
			longest = max(longest, p.Containers[i].Stop)
		}
	}
	return longest
}

func scaled(d time.Duration, by float64) time.Duration {
	if by == 1 {
		return d
	}
	return time.Duration(float64(d) * by)
}
