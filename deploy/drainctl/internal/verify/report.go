package verify

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Severities of a finding.
const (
	Error   = "error"   // it does not pass
	Warning = "warning" // a person should look
	Note    = "note"    // what was not judged, or is good to know
)

// Finding is one thing that a person should know.
type Finding struct {
	Severity string `json:"severity"`
	Check    string `json:"check"` // an id; "lint/RULE" for those of drainctl lint
	Pod      string `json:"pod"`
	Message  string `json:"message"`
	Fix      string `json:"fix"`
}

// Results of a run.
const (
	Pass       = "pass"
	Fail       = "fail"
	Unfinished = "unfinished" // interrupted: neither
)

// Report is what came of a run. Its JSON is what verify -o json writes.
type Report struct {
	Workload  string    `json:"workload"`
	Namespace string    `json:"namespace"`
	Result    string    `json:"result"`
	Rolled    bool      `json:"rolled"` // whether pods were replaced
	Seconds   float64   `json:"seconds"`
	Stops     []Stop    `json:"stops"`
	Agents    []Agent   `json:"agents"` // --read-only: what agents say of themselves
	Load      *Load     `json:"load"`   // null: no --url
	Findings  []Finding `json:"findings"`
	Rolling   []string  `json:"still_rolling"` // old pods that were still there at the end
}

func (r *Report) add(found ...Finding) { r.Findings = append(r.Findings, found...) }

// conclude orders the findings and draws the result.
func (r *Report) conclude(unfinished bool) {
	rank := func(f Finding) int { return slices.Index([]string{Error, Warning, Note}, f.Severity) }
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(rank(a), rank(b)) })
	switch {
	case slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == Error }):
		r.Result = Fail
	case unfinished:
		r.Result = Unfinished
	default:
		r.Result = Pass
	}
}

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.Stops) > 0 {
		fmt.Fprintln(t, "POD\tVERDICT\tSTOP\tLEFT ENDPOINTS\tFIRST HOOK ANSWERED")
	}
	for _, s := range r.Stops {
		outcome := "none"
		if s.Verdict != nil {
			outcome = s.Verdict.Outcome
		}
		left := seconds(s.LeftMS)
		if s.NoEndpoints {
			left = "was in none"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", s.Pod, outcome, seconds(s.TookMS), left, seconds(s.ReleasedMS))
	}
	if len(r.Agents) > 0 {
		fmt.Fprintln(t, "POD\tPHASE\tPROXY IN FLIGHT\tAPP IN FLIGHT\tLAST VERDICT")
	}
	for _, a := range r.Agents {
		last := "none"
		if a.Last != nil {
			last = a.Last.Outcome
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", a.Pod, cmp.Or(a.Phase, "unknown"), number(a.Proxy), number(a.App), last)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if r.Load != nil {
		fmt.Fprintln(w, r.Load)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%s %s%s: %s\n", f.Severity, f.Check, strings.TrimRight(" "+f.Pod, " "), f.Message)
		if f.Fix != "" {
			fmt.Fprintf(w, "  fix: %s\n", f.Fix)
		}
	}
	_, err := fmt.Fprintln(w, r.sentence())
	return err
}

func (r *Report) sentence() string {
	what := fmt.Sprintf("%s in %s", r.Workload, r.Namespace)
	errors := 0
	for _, f := range r.Findings {
		if f.Severity == Error {
			errors++
		}
	}
	switch {
	case r.Result == Unfinished:
		return fmt.Sprintf("unfinished: %s: %d stops judged, still there: %s", what, len(r.Stops), cmp.Or(strings.Join(r.Rolling, ", "), "nobody"))
	case r.Result == Fail && !r.Rolled:
		return fmt.Sprintf("fail: %s: %d errors, nothing was changed", what, errors)
	case r.Result == Fail:
		return fmt.Sprintf("fail: %s: %d errors in %d stops, %.0f s", what, errors, len(r.Stops), r.Seconds)
	case !r.Rolled:
		return fmt.Sprintf("pass: %s: nothing wrong is to be seen without a rollout", what)
	}
	return fmt.Sprintf("pass: %s: %d pods replaced in %.0f s, every stop clean", what, len(r.Stops), r.Seconds)
}

func seconds(ms *int64) string {
	if ms == nil {
		return "unknown"
	}
	return fmt.Sprintf("%.1f s", float64(*ms)/1000)
}

func number(n *int64) string {
	if n == nil {
		return "unknown"
	}
	return fmt.Sprint(*n)
}
