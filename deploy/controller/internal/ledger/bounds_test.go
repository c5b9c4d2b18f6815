package ledger

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A row has a bound, whatever its pod says and names; what an agent says has room with both curves, and longer curves are thinned.
func TestRowsAreBounded(t *testing.T) {
	curve := func(points int, point string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(point+",", points), ",") + "]"
	}
	verdict := func(more string) string {
		return `{"msg":"verdict","outcome":"clean","time":"2026-03-01T12:00:00Z","total_ms":120000,"phases":{"confirming":10,"announcing":1500,"draining":90000},"reason":"every source read zero and nobody sends any more","trigger":"hook app, SIGTERM",` + more + `}`
	}
	long := strings.Repeat("<\"\u2028", 20<<10)
	names := &corev1.Pod{}
	names.OwnerReferences = []metav1.OwnerReference{{Kind: long, Name: long, APIVersion: long, UID: types.UID(long)}}
	invented, _ := (&owners{}).of(t.Context(), names)
	for what, one := range map[string]struct {
		message        string
		whole, curves  bool
		flight, comers int
	}{
		"an agent's":         {verdict(`"in_flight_curve":` + curve(120, "[120000,1200]") + `,"arrivals_curve":` + curve(60, "[120000,123456,1234,1234]")), true, true, 120, 60},
		"curves of others":   {verdict(`"in_flight_curve":` + curve(2000, "[120000,1200]") + `,"arrivals_curve":` + curve(240, "[120000,123456,1234,1234]")), true, true, 120, 60},
		"curves of no curve": {verdict(`"in_flight_curve":"` + strings.Repeat("<", 60<<10) + `"`), false, false, 0, 0},
		"a long key":         {verdict(`"` + strings.Repeat("<", 60<<10) + `":1`), false, false, 0, 0},
		"a long reason":      {strings.Replace(verdict(`"a":1`), "every source", strings.Repeat("<", 60<<10), 1), false, false, 0, 0},
	} {
		v := lastVerdict(one.message, true)
		p := stopAt("0d1b2c3d-aaaa-bbbb-cccc-0123456789ab", 1).Pod
		for _, w := range []Workload{p.Workload, invented} {
			p.Workload = w
			s := row(p, v, true)
			body, err := json.Marshal(s)
			if err != nil || len(body) > mostRow {
				t.Errorf("%s: %d bytes, %v", what, len(body), err)
			}
			if w != invented && (s.Whole != one.whole || s.Outcome != "clean" || s.TotalMS == nil) {
				t.Errorf("%s: %d bytes, whole %v", what, len(body), s.Whole)
			}
			var kept struct {
				Flight [][2]int64 `json:"in_flight_curve"`
				Comers [][4]int64 `json:"arrivals_curve"`
			}
			if one.curves && w != invented && (json.Unmarshal(s.Verdict, &kept) != nil || len(kept.Flight) < one.flight/2 || len(kept.Flight) > one.flight || len(kept.Comers) < one.comers/2 || len(kept.Comers) > one.comers) {
				t.Errorf("%s: %d and %d points", what, len(kept.Flight), len(kept.Comers))
			}
		}
	}
}
