package timeline

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"time"
)

// Verdict is the last line of a drain: what came of it. Its JSON is described in the package documentation.
//
// A nil pointer is a count that nobody could read, never a zero.
type Verdict struct {
	Time    time.Time
	Level   string
	Outcome string           // clean, deadline, proxy_died, … (package documentation)
	TotalMS int64            // milliseconds from T0 to this verdict
	Phases  map[string]int64 // milliseconds spent in each phase, visits added up

	// InFlightCurve holds [milliseconds since T0, requests in flight]: what [Curve] collected.
	// Moments at which nobody could read the number are left out.
	InFlightCurve [][2]int64

	// ArrivalsCurve is what [Arrivals] collected; with RequestsPerSecond, the rate before the stop, it is what a replay needs.
	ArrivalsCurve     [][4]int64
	RequestsPerSecond *float64

	NewConnectionsAfterT0 *int64
	IdleConnectionsLeft   *int64 // connections still open when the first hook was answered
	ArrivalsAfterRelease  *int64 // requests that came after the first hook was answered
	Score                 *float64

	HeldLongest string           // the container or source that was waited for longest; empty when none was
	Cut         map[string]int64 // what did not end before its process did: "app", "proxy websocket", … → how many; what could not be read is absent
	Trigger     string           // the fact that set T0
	Reason      string           // why it ended so, in words
}

// phaseOrder is the order in which people read phases.
func phaseOrder() []string {
	return []string{
		"serving", "confirming", "holding", "maintenance",
		"announcing", "draining", "settling", "stopping", "finished",
	}
}

// sortedPhases returns the keys of m in the order of phases, unknown names last.
func sortedPhases(m map[string]int64) []string {
	order := phaseOrder()
	rank := func(name string) int {
		if i := slices.Index(order, name); i >= 0 {
			return i
		}
		return len(order)
	}
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	return names
}

// phaseTimes is written as an object whose keys stand in the order of phases.
type phaseTimes map[string]int64

func (p phaseTimes) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, name := range sortedPhases(p) {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := encode(name)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.WriteString(strconv.FormatInt(p[name], 10))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// wireVerdict is the order and the names of a verdict's keys.
type wireVerdict struct {
	Time                  string           `json:"time"`
	Level                 string           `json:"level"`
	Msg                   string           `json:"msg"`
	Outcome               *string          `json:"outcome"`
	TotalMS               *int64           `json:"total_ms"`
	Phases                phaseTimes       `json:"phases"`
	InFlightCurve         [][2]int64       `json:"in_flight_curve"`
	NewConnectionsAfterT0 *int64           `json:"new_connections_after_t0"`
	IdleConnectionsLeft   *int64           `json:"idle_connections_left"`
	ArrivalsAfterRelease  *int64           `json:"arrivals_after_release"`
	Score                 *float64         `json:"score"`
	HeldLongest           string           `json:"held_longest"`
	Cut                   map[string]int64 `json:"cut"`
	Trigger               string           `json:"trigger"`
	Reason                string           `json:"reason"`
	ArrivalsCurve         [][4]int64       `json:"arrivals_curve,omitempty"`
	RequestsPerSecond     *float64         `json:"requests_per_second,omitempty"`
}

var _ json.Marshaler = Verdict{}

// MarshalJSON writes the keys of the public contract, in their order, with at most [MaxCurve] points. It never fails.
func (v Verdict) MarshalJSON() ([]byte, error) {
	w := wireVerdict{
		Time: v.Time.UTC().Format(timeLayout), Level: v.Level, Msg: msgVerdict,
		Outcome: &v.Outcome, TotalMS: &v.TotalMS, Phases: v.Phases,
		InFlightCurve:         Thin(v.InFlightCurve, MaxCurve),
		NewConnectionsAfterT0: v.NewConnectionsAfterT0,
		IdleConnectionsLeft:   v.IdleConnectionsLeft,
		ArrivalsAfterRelease:  v.ArrivalsAfterRelease,
		Score:                 finite(v.Score),
		HeldLongest:           v.HeldLongest, Cut: v.Cut, Trigger: v.Trigger, Reason: v.Reason,
		ArrivalsCurve: v.ArrivalsCurve, RequestsPerSecond: finite(v.RequestsPerSecond),
	}
	if w.InFlightCurve == nil {
		w.InFlightCurve = [][2]int64{}
	}
	if w.Cut == nil {
		w.Cut = map[string]int64{}
	}
	return encode(w)
}
