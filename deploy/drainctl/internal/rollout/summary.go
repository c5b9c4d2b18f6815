package rollout

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Summary is what a rollout did, over all pod stops that have their verdict. Its JSON is part of timeline -o json.
type Summary struct {
	Stops      int            `json:"stops"`      // pod stops with a verdict
	Unfinished int            `json:"unfinished"` // drains without a verdict
	Others     int            `json:"others"`     // container restarts, maintenance, aborted drains: no pod stopped
	P50MS      int64          `json:"p50_ms"`     // of the stops' total time; 0 without stops
	P95MS      int64          `json:"p95_ms"`
	LongestMS  int64          `json:"longest_ms"`
	Longest    string         `json:"longest"` // the pod that took longest
	Outcomes   map[string]int `json:"outcomes"`
	Held       map[string]int `json:"held_longest"` // who was waited for longest → in how many stops
	Cut        int64          `json:"cut"`          // requests in flight that were let go
	Late       int64          `json:"arrivals_after_release"`
	LateUnread int            `json:"arrivals_unknown"` // stops where late arrivals could not be counted
}

// Summarise computes the summary.
func Summarise(drains []*Drain) Summary {
	s := Summary{Outcomes: map[string]int{}, Held: map[string]int{}}
	var times []int64
	for _, d := range drains {
		v := d.Verdict
		if v == nil {
			s.Unfinished++
			continue
		}
		s.Outcomes[v.Outcome]++
		if slices.Contains([]string{"container_restart", "maintenance", "aborted"}, v.Outcome) {
			s.Others++
			continue
		}
		s.Stops++
		times = append(times, v.TotalMS)
		if v.TotalMS >= s.LongestMS {
			s.LongestMS, s.Longest = v.TotalMS, d.Pod
		}
		if v.HeldLongest != "" {
			s.Held[v.HeldLongest]++
		}
		for _, n := range v.Cut {
			s.Cut += n
		}
		if v.ArrivalsAfterRelease == nil {
			s.LateUnread++
		} else {
			s.Late += *v.ArrivalsAfterRelease
		}
	}
	slices.Sort(times)
	s.P50MS, s.P95MS = percentile(times, 50), percentile(times, 95)
	return s
}

// percentile is the smallest value that p percent of the sorted values do not exceed; 0 without values.
func percentile(sorted []int64, p int) int64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max((p*len(sorted)+99)/100-1, 0)]
}

// Table writes the summary and one row for each drain.
func Table(w io.Writer, drains []*Drain) error {
	s := Summarise(drains)
	fmt.Fprintf(w, "%d pod stops", s.Stops)
	if s.Others > 0 {
		fmt.Fprintf(w, ", %d drains of pods that went on", s.Others)
	}
	if s.Unfinished > 0 {
		fmt.Fprintf(w, ", %d without a verdict", s.Unfinished)
	}
	fmt.Fprintln(w)
	if s.Stops > 0 {
		fmt.Fprintf(w, "stop time   p50 %s, p95 %s, longest %s (%s)\n", Seconds(s.P50MS), Seconds(s.P95MS), Seconds(s.LongestMS), s.Longest)
	}
	fmt.Fprintf(w, "outcome     %s\n", Counts(s.Outcomes))
	fmt.Fprintf(w, "held by     %s\n", Counts(s.Held))
	fmt.Fprintf(w, "lost        %d cut in flight, came after the first hook was answered: %s\n\n", s.Cut, s.LateText())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "POD\tSTART\tSTOP\tOUTCOME\tHELD LONGEST\tCUT\tLATE\tREASON")
	for _, d := range drains {
		r := NewRow(d)
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Pod, r.Start, r.Stop, r.Outcome, r.Held, r.Cut, r.Late, r.Reason)
	}
	return t.Flush()
}

// LateText is the number of late arrivals, and in how many stops nobody could count them.
func (s Summary) LateText() string {
	if s.LateUnread == 0 {
		return fmt.Sprint(s.Late)
	}
	return fmt.Sprintf("%d (not countable in %d)", s.Late, s.LateUnread)
}

// Row is one drain in a table; "?" stands for what nobody could read, "-" for nothing.
type Row struct{ Pod, Start, Stop, Outcome, Held, Cut, Late, Reason string }

// NewRow returns the row of a drain.
func NewRow(d *Drain) Row {
	r := Row{Pod: d.Pod, Start: d.Start().UTC().Format(time.TimeOnly), Stop: "?", Outcome: "no verdict", Held: "-", Cut: "?", Late: "?"}
	if v := d.Verdict; v != nil {
		r.Stop, r.Outcome, r.Held, r.Reason = Seconds(v.TotalMS), v.Outcome, cmp.Or(v.HeldLongest, "-"), v.Reason
		r.Cut = Counts(v.Cut)
		if v.ArrivalsAfterRelease != nil {
			r.Late = fmt.Sprint(*v.ArrivalsAfterRelease)
		}
	}
	return r
}

// Counts writes counts by name, the largest first; "-" when there are none.
func Counts[N int | int64](counts map[string]N) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(-cmp.Compare(counts[a], counts[b]), cmp.Compare(a, b))
	})
	parts := make([]string, 0, len(names))
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return cmp.Or(strings.Join(parts, ", "), "-")
}

// Seconds writes milliseconds as seconds.
func Seconds(ms int64) string { return fmt.Sprintf("%.1f s", float64(ms)/1000) }
