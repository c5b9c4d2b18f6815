package timeline

import (
	"math"
	"slices"
)

// MaxCurve is the most points that a verdict's in_flight_curve has.
const MaxCurve = 120

// Curve collects the in-flight curve of one drain in bounded memory, however long the drain is.
// The zero value is ready for use; it is not safe for concurrent use.
type Curve struct {
	points [][2]int64
}

// Add notes that n requests were in flight atMS milliseconds after T0. Times must not decrease.
// Do not call it for a moment at which the number was unknown.
func (c *Curve) Add(atMS, n int64) {
	p := c.points
	if k := len(p); k >= 2 && p[k-1][1] == n && p[k-2][1] == n {
		p[k-1][0] = atMS // a plateau needs its two ends only
		return
	}
	c.points = append(p, [2]int64{atMS, n})
	if len(c.points) > 4*MaxCurve {
		c.points = Thin(c.points, 2*MaxCurve)
	}
}

// Points returns the curve so far, thinned to at most [MaxCurve] points.
func (c *Curve) Points() [][2]int64 { return Thin(append([][2]int64(nil), c.points...), MaxCurve) }

// Thin returns curve with at most limit of its points, in order: the first, the last, and the highest and
// lowest of equal shares between them, so that a peak or a moment of silence is not lost.
// Below four points the highest matters most: limit 3 keeps first, highest and last; 2 first and last; 1 the highest.
// curve itself is returned when it is short enough, and is never changed.
func Thin(curve [][2]int64, limit int) [][2]int64 {
	switch {
	case len(curve) <= limit:
		return curve
	case limit <= 0:
		return nil
	case limit == 1:
		return [][2]int64{curve[highest(curve)]}
	}
	first, last, middle := curve[0], curve[len(curve)-1], curve[1:len(curve)-1]
	kept := append(make([][2]int64, 0, limit), first)
	if limit == 3 {
		kept = append(kept, middle[highest(middle)])
	}
	shares := (limit - 2) / 2
	for i := range shares {
		share := middle[i*len(middle)/shares : (i+1)*len(middle)/shares]
		hi, lo := highest(share), lowest(share)
		kept = append(kept, share[min(hi, lo)])
		if hi != lo {
			kept = append(kept, share[max(hi, lo)])
		}
	}
	return append(kept, last)
}

// highest returns the index of the first highest point; curve must not be empty.
func highest(curve [][2]int64) int {
	best := 0
	for i, p := range curve {
		if p[1] > curve[best][1] {
			best = i
		}
	}
	return best
}

// lowest returns the index of the first lowest point; curve must not be empty.
func lowest(curve [][2]int64) int {
	best := 0
	for i, p := range curve {
		if p[1] < curve[best][1] {
			best = i
		}
	}
	return best
}

// MaxArrivals is the most points that a verdict's arrivals_curve has.
const MaxArrivals = 60

// Arrivals collects [milliseconds since T0, requests and new connections since then, connections open] of one drain in bounded memory:
// a point for each change; where they are too many, those go that shift what came the least in time, so that silences stay. The zero value is ready for use.
type Arrivals struct {
	points [][4]int64
	end    int64 // until when the last point was read again
}

// Add notes what was read. Do not call it for a moment at which one of the numbers was unknown.
func (a *Arrivals) Add(p [4]int64) {
	if k := len(a.points); k > 0 && [3]int64(p[1:]) == [3]int64(a.points[k-1][1:]) {
		a.end = p[0] // a plateau needs its two ends only
		return
	}
	a.points = ThinArrivals(append(a.ended(), p))
}

// ended are the points with the end of the last plateau.
func (a *Arrivals) ended() [][4]int64 {
	if k := len(a.points); k > 0 && a.end > a.points[k-1][0] {
		last := a.points[k-1]
		last[0] = a.end
		return append(a.points, last)
	}
	return a.points
}

// Points returns the curve so far.
func (a *Arrivals) Points() [][4]int64 { return ThinArrivals(slices.Clone(a.ended())) }

// ThinArrivals leaves [MaxArrivals] points of a curve, in place: each time the one goes without which the curve tells what came the least
// wrong in time.
func ThinArrivals(points [][4]int64) [][4]int64 {
	for len(points) > MaxArrivals {
		least, shift := 0, int64(math.MaxInt64)
		for i := 1; i < len(points)-1; i++ {
			wrong := points[i+1][0] - points[i-1][0]
			if [3]int64(points[i][1:]) == [3]int64(points[i-1][1:]) {
				wrong = 0 // it says what the one before it says
			}
			if wrong < shift {
				least, shift = i, wrong
			}
		}
		points = slices.Delete(points, least, least+1)
	}
	return points
}
