package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

// What stands in the table beside each other: the shapes of pod, and what each is stopped with.
const (
	Native  = "native"
	Classic = "classic"

	Nothing    = "nothing"
	Sleep5     = "sleep 5"
	Sleep15    = "sleep 15"
	DrainAgent = "drain-agent"
)

// Row is what became of one pod of the table: of one shape, stopped with one of the above.
type Row struct {
	Shape     string    `json:"shape"`
	Pod       string    `json:"pod"`
	Requests  int       `json:"requests"`
	Failed    int       `json:"failed"`
	FailedPer []float64 `json:"failed_per_100000"` // of each rollout, at least one
	Stops     []float64 `json:"seconds_per_stop"`  // of each pod, at least one
}

// String is the row for people.
func (r Row) String() string {
	return fmt.Sprintf("| %s | %s | %d | %d | %d | %.0f | %.1f / %.1f / %.1f |", r.Shape, r.Pod, len(r.FailedPer), r.Requests, r.Failed,
		median(r.FailedPer), slices.Min(r.Stops), median(r.Stops), slices.Max(r.Stops))
}

const mark = "table row: " // before a row for programs

// Line is the row for programs: [ParseRows] finds it in whatever a test prints.
func (r Row) Line() string {
	text, _ := json.Marshal(r) // strings and numbers
	return mark + string(text)
}

// ParseRows reads the rows out of what `scripts/e2e/run --table` printed. It returns those it can read, and an error for each
// it cannot, or when there is none.
func ParseRows(printed string) (rows []Row, err error) {
	for line := range strings.Lines(printed) {
		_, text, found := strings.Cut(line, mark)
		if !found {
			continue
		}
		var r Row
		problem := json.Unmarshal([]byte(text), &r)
		if problem == nil && (len(r.FailedPer) == 0 || len(r.Stops) == 0) {
			problem = errors.New("it has no samples")
		}
		if problem != nil {
			err = errors.Join(err, fmt.Errorf("read the row %q: %w", strings.TrimSpace(text), problem))
			continue
		}
		rows = append(rows, r)
	}
	if len(rows) == 0 && err == nil {
		err = errors.New("read the table: it has no rows")
	}
	return rows, err
}

// Missed says in what the table misses its target: with drain-agent no request of at least 100,000 fails, over both shapes,
// and in each the median stop is shorter than with sleep 15. Empty: the target is met. A row that is missing misses it.
func Missed(rows []Row) (all []string) {
	requests, failed := 0, 0
	for _, shape := range []string{Native, Classic} {
		agent, sleep := rowOf(rows, shape, DrainAgent), rowOf(rows, shape, Sleep15)
		if agent == nil || sleep == nil {
			all = append(all, fmt.Sprintf("%s: want rows of %s and of %s", shape, DrainAgent, Sleep15))
			continue
		}
		requests += agent.Requests
		failed += agent.Failed
		if a, s := median(agent.Stops), median(sleep.Stops); a >= s {
			all = append(all, fmt.Sprintf("%s: the median stop takes %.1f s, want less than the %.1f s of %s", shape, a, s, Sleep15))
		}
	}
	if failed > 0 || requests < 100_000 {
		all = append(all, fmt.Sprintf("%d of %d requests failed, want 0 of at least 100000", failed, requests))
	}
	return all
}

func rowOf(rows []Row, shape, pod string) *Row {
	i := slices.IndexFunc(rows, func(r Row) bool { return r.Shape == shape && r.Pod == pod })
	if i < 0 {
		return nil
	}
	return &rows[i]
}

// median returns the middle of the samples, of which there is at least one.
func median(samples []float64) float64 {
	s := slices.Sorted(slices.Values(samples))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// failedPer returns for each rollout how many of 100,000 requests failed, from looks at the load before the first and after
// each. A request counts for the rollout in which it was sent, its failure for the one in which it was seen.
func failedPer(marks []openloop.Snapshot) (all []float64) {
	for i, end := range marks[1:] {
		begin := marks[i]
		all = append(all, 1e5*float64(end.Failed-begin.Failed)/float64(end.Sent-begin.Sent))
	}
	return all
}
