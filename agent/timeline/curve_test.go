package timeline

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func TestCurveStaysSmallWhileItGrows(t *testing.T) {
	var c Curve
	for i := range int64(50_000) {
		c.Add(i, i%5)
		if len(c.points) > 4*MaxCurve {
			t.Fatalf("%d points kept after %d", len(c.points), i)
		}
	}
}

// However much comes, what is kept is bounded, in order, begins at the beginning and ends at the end; a plateau takes two points.
func TestArrivalsAreBounded(t *testing.T) {
	var a Arrivals
	for i := range int64(10_000) {
		a.Add([4]int64{10 * i, i, i / 3, 50})
	}
	p := a.Points()
	if len(p) > MaxArrivals || len(p) < MaxArrivals/2 || p[0] != [4]int64{0, 0, 0, 50} || p[len(p)-1] != [4]int64{99_990, 9999, 3333, 50} {
		t.Errorf("%d points from %v to %v", len(p), p[0], p[len(p)-1])
	}
	for i := range p[1:] {
		if p[i+1][0] <= p[i][0] || p[i+1][1] <= p[i][1] {
			t.Fatalf("%v follows %v", p[i+1], p[i])
		}
	}
	for i := range p[2:] { // no part is told more coarsely than others
		if gap := p[i+1][0] - p[i][0]; gap > 4*99_990/MaxArrivals {
			t.Errorf("nothing between %v and %v", p[i], p[i+1])
		}
	}
	a = Arrivals{}
	for ms := range int64(9) {
		a.Add([4]int64{ms, 1, 1, 1})
	}
	a.Add([4]int64{9, 2, 1, 1})
	if got := a.Points(); !reflect.DeepEqual(got, [][4]int64{{0, 1, 1, 1}, {8, 1, 1, 1}, {9, 2, 1, 1}}) {
		t.Errorf("%v", got)
	}
}

// Where nothing came for long it stays known since when, to the moment: that is what a stop waits for.
func TestArrivalsKeepSilences(t *testing.T) {
	var a Arrivals
	at, came := int64(0), int64(0)
	silent := map[int64]int64{} // from, to
	for range 5 {
		for range 400 {
			at, came = at+25, came+1
			a.Add([4]int64{at, came, 0, 50})
		}
		from := at
		for range 100 {
			at += 50
			a.Add([4]int64{at, came, 0, 50})
		}
		silent[from] = at + 25
	}
	a.Add([4]int64{at + 25, came + 1, 0, 50})
	p := a.Points()
	for i := range p[1:] {
		if until, ok := silent[p[i][0]]; ok {
			for _, q := range p[i+1:] {
				if q[1] != p[i][1] && q[0] == until {
					delete(silent, p[i][0])
				}
			}
		}
	}
	if len(silent) > 0 || len(p) > MaxArrivals {
		t.Errorf("silences %v are not in %v", silent, p)
	}
}

// What a replay needs is read back as it was written, and is in no termination message.
func TestVerdictCarriesArrivals(t *testing.T) {
	v := Verdict{Outcome: "clean", ArrivalsCurve: [][4]int64{{0, 1, 2, 3}}, RequestsPerSecond: new(1.5)}
	text, err := v.MarshalJSON()
	if err != nil || !strings.HasSuffix(string(text), `,"arrivals_curve":[[0,1,2,3]],"requests_per_second":1.5}`) {
		t.Errorf("%s, %v", text, err)
	}
	for line, err := range Decode(bytes.NewReader(text)) {
		if err != nil || !reflect.DeepEqual(line.Verdict.ArrivalsCurve, v.ArrivalsCurve) || *line.Verdict.RequestsPerSecond != 1.5 {
			t.Errorf("%+v, %v", line.Verdict, err)
		}
	}
	if short := v.Termination(1024); strings.Contains(short, "arrivals_curve") || strings.Contains(short, "per_second") {
		t.Errorf("message %s", short)
	}
}
