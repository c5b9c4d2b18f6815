package main

import (
	"strings"
	"testing"
)

func TestSecondHopIsRetriedAndSameHopIsNot(t *testing.T) {
	m, err := startMesh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	r, err := m.measure(t.Context(), 200)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	r.print(&text)
	t.Log("\n" + text.String())
	if a := r.article; a.injected == 0 || a.retries != 0 || a.failed != a.injected {
		t.Errorf("the article's form: %+v, want every fault to reach the client and no retry", a)
	}
	for _, o := range []form{r.ours, r.customer} {
		if o.injected == 0 || o.retries == 0 || o.failed*4 >= o.injected {
			t.Errorf("our form: %+v, want retries and far fewer failures than faults", o)
		}
	}
	for _, f := range []form{r.article, r.ours, r.customer} {
		if f.doubled != 0 || int64(f.made) < f.sent-f.failed {
			t.Errorf("%d acknowledged payments, %d made, %d doubled", f.sent-f.failed, f.made, f.doubled)
		}
	}
	if share := float64(r.canary) / float64(r.stable+r.canary); share < 0.02 || share > 0.22 { // 10 % of 200, four sigma
		t.Errorf("the canary got %.0f %%, want about 10", 100*share)
	}
	if !r.ejected || !r.returned || r.failedWhileSick > 2 {
		t.Errorf("the sick pod: ejected %v, returned %v, %d payments failed", r.ejected, r.returned, r.failedWhileSick)
	}
	if r.limited == 0 || float64(r.allowed) > 100*(r.seconds+1) {
		t.Errorf("rate limit: %d let through in %.1f s, %d refused", r.allowed, r.seconds, r.limited)
	}
}
