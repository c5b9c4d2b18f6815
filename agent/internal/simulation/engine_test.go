package simulation

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	ms  = time.Millisecond
	sec = time.Second
)

// engine is a queue of things that will happen in a model. It is advanced by whoever looks at the model.
type engine struct {
	now   time.Duration
	queue queue
	seq   int
}

type event struct {
	at  time.Duration
	seq int
	do  func()
}

type queue []event

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}

func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

func (q *queue) Push(e any) { *q = append(*q, e.(event)) } //nolint:forcetypeassert // only events are pushed

func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// after plans something.
func (e *engine) after(d time.Duration, do func()) {
	e.seq++
	heap.Push(&e.queue, event{e.now + max(d, 0), e.seq, do})
}

// advance lets everything happen that is due.
func (e *engine) advance(to time.Duration) {
	for len(e.queue) > 0 && e.queue[0].at <= to {
		next := heap.Pop(&e.queue).(event) //nolint:forcetypeassert // only events are pushed
		e.now = next.at
		next.do()
	}
	e.now = max(e.now, to)
}

// dice are one stream of chance: each part of a scenario has its own, so that leaving one out changes no other.
type dice struct{ *rand.Rand }

func newDice(seed uint64, part string, n int) dice {
	h := uint64(14695981039346656037)
	for _, c := range fmt.Sprint(part, n) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return dice{rand.New(rand.NewPCG(seed, h))}
}

// between is evenly distributed.
func (d dice) between(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(d.Int64N(int64(high-low)))
}

func (d dice) chance(p float64) bool { return d.Float64() < p }

func pick[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }
