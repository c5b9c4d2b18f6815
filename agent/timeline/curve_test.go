package timeline

import "testing"

func TestCurveStaysSmallWhileItGrows(t *testing.T) {
	var c Curve
	for i := range int64(50_000) {
		c.Add(i, i%5)
		if len(c.points) > 4*MaxCurve {
			t.Fatalf("%d points kept after %d", len(c.points), i)
		}
	}
}
