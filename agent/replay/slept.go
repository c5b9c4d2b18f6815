package replay

import (
	"math"
	"time"
)

// Slept is what the stop would have come to without an agent, with a preStop hook in every container that sleeps.
//
// Nobody tells clients to go: what is in flight when the sleep is over, and what comes after it, is taken for what it was at T0. So the
// containers end within the time until nothing was in flight for the first time, and as long as they took under the agent; what comes
// until then is lost at the most, and what was in flight too where Envoy does not outlive the app. That new connections go elsewhere
// meanwhile makes it less. An app that ends in the middle of its requests is not foreseen.
func Slept(r *Recorded, sleep time.Duration) Stop {
	free, flying, over := r.firstZero()
	tail := max(r.total-r.release, 0)
	s := Stop{Release: sleep, Open: !over, Total: [2]time.Duration{sleep, sleep + free + tail}}
	s.Lost[1] = flying + poisson((free+tail).Seconds()*r.perSecond)
	return s
}

// firstZero is when nothing was in flight for the first time, and what was before.
func (r *Recorded) firstZero() (at time.Duration, most int64, over bool) {
	for _, p := range r.inFlight {
		if p[1] == 0 {
			return ms(p[0]), most, true
		}
		most = max(most, p[1])
	}
	return r.release, most, false
}

// poisson is what a count of this mean is at the most in 39 of 40 cases.
func poisson(mean float64) (k int64) {
	if mean > 1000 { // as good as normal, and the sum below would begin at 0
		return int64(math.Ceil(mean + 1.96*math.Sqrt(mean)))
	}
	term := math.Exp(-mean)
	for sum := term; sum < 0.975; sum += term {
		k++
		term *= mean / float64(k)
	}
	return k
}
