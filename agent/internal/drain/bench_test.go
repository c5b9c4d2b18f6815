package drain

import "testing"

// BenchmarkStep measures one reading taken while draining: the common path.
func BenchmarkStep(b *testing.B) {
	w := newWorld(Defaults())
	w.proxy = Known(1)
	w.run(10*sec, nil)
	w.stop()
	w.run(12*sec, nil)
	if w.s.Phase != Draining {
		b.Fatalf("in %s", w.s.Phase)
	}
	b.ReportAllocs()
	for b.Loop() {
		w.now++ // each reading is a new one
		in := w.sampled(look{at: w.now, zeroAt: w.now, statsAt: w.now, every: w.every, proxy: Known(1), rqs: Known(7)})
		w.s, _ = Step(&w.p, w.s, in)
	}
}

func TestStepDoesNotAllocate(t *testing.T) {
	w := newWorld(Defaults())
	w.stop()
	w.run(1*sec, nil)
	step := func() {
		w.now++ // each reading is a new one
		w.s, _ = Step(&w.p, w.s, w.sampled(look{at: w.now, zeroAt: w.now, statsAt: w.now, every: w.every, proxy: Known(1), rqs: Known(7)}))
	}
	if n := testing.AllocsPerRun(100, step); n != 0 {
		t.Errorf("%v allocations in a step", n)
	}
}
