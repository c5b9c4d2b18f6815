package ledger

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

// mostRow bounds the bytes of a row, whatever a pod says: with these all rows that are kept without anybody's saying otherwise take less
// than 64 MiB of SQLite's memory, which it doubles each time that it is full.
const mostRow, mostText = 5632, 256

// bounded is the row with what of its verdict there is room for: without its curves, else without all of it.
func (s *Stop) bounded() *Stop {
	if s.fits() {
		return s
	}
	s.Whole = false
	keys, values, _ := members(string(s.Verdict))
	s.Verdict = object(slices.DeleteFunc(keys, func(key string) bool { return strings.HasSuffix(key, "_curve") }), values)
	if !s.fits() {
		s.Verdict, s.Reason = nil, clip(s.Reason)
	}
	return s
}

func (s *Stop) fits() bool {
	body, err := json.Marshal(s)
	return err == nil && len(body) <= mostRow
}

// clip leaves the beginning of a text.
func clip(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), mostText)], "")
}

// thinned is a member of a verdict with as many points as a curve has that an agent wrote.
func thinned(key string, value json.RawMessage) json.RawMessage {
	switch key {
	case "in_flight_curve":
		var curve [][2]int64
		if json.Unmarshal(value, &curve) == nil && len(curve) > timeline.MaxCurve {
			value, _ = json.Marshal(timeline.Thin(curve, timeline.MaxCurve)) // numbers always can be
		}
	case "arrivals_curve":
		var curve [][4]int64
		if json.Unmarshal(value, &curve) == nil && len(curve) > timeline.MaxArrivals {
			value, _ = json.Marshal(timeline.ThinArrivals(curve))
		}
	}
	return value
}
