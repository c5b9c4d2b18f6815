package ledger

import (
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

//go:embed page
var pageFiles embed.FS

var pageTemplates = template.Must(template.ParseFS(pageFiles, "page/page.html"))

// Rows of the page; more are on the next.
const pageRollouts, pageDrains = 20, 50

// page adds the page to the API: what the same rows say, for people. It works without a script.
func (l *Ledger) page(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", l.listPage)
	mux.HandleFunc("GET /drain", l.drainPage)
	mux.HandleFunc("GET /live", l.livePage)
	for name, kind := range map[string]string{"style.css": "text/css", "live.js": "text/javascript"} {
		text, _ := pageFiles.ReadFile("page/" + name) // it is embedded
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind+"; charset=utf-8")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			_, _ = w.Write(text) // who asked is gone
		})
	}
}

// number is a sum that some rows do not say.
type number struct {
	Text string
	Bad  bool
}

func sumOf(sum *int64, known, of int64) number {
	switch {
	case sum == nil:
		return number{Text: "?"}
	case known < of:
		return number{fmt.Sprintf("%d + ?", *sum), *sum > 0}
	}
	return number{fmt.Sprint(*sum), *sum > 0}
}

func one(n *int64) number {
	if n == nil {
		return number{Text: "?"}
	}
	return number{fmt.Sprint(*n), *n > 0}
}

func seconds(ms *int64) string {
	if ms == nil {
		return "?"
	}
	return fmt.Sprintf("%.1f s", float64(*ms)/1000)
}

// classOf is how an outcome is coloured; its word says the same.
func classOf(outcome string) string {
	switch outcome {
	case "clean", unknown:
		return outcome
	}
	return "bad"
}

type listPage struct {
	Title                    string
	Problems                 []string
	Stops, Unknown, NotClean int64
	Cut, Late                number
	Filter                   url.Values
	Outcomes, Spans          []choice
	Live                     liveView
	Rollouts                 []rolloutRow
	Drains                   []*drainRow
	Next                     string
}

type choice struct {
	Name, Value string
	Chosen      bool
}

type rolloutRow struct {
	Name, Link, Revision, Last, P50, P95 string
	Stops                                int64
	Outcomes                             []outcomeCount
	Cut, Late                            number
}

type outcomeCount struct {
	N           int
	Name, Class string
}

type drainRow struct {
	Stop
	Name, Link, Class, Ended, Took string
	CutText, LateText              number
}

// spans of time that can be chosen.
var spans = []struct {
	value, name string
	length      time.Duration
}{{"1h", "in the last hour", time.Hour}, {"24h", "in the last 24 hours", 24 * time.Hour}, {"7d", "in the last 7 days", 7 * 24 * time.Hour}, {"", "at any time", 0}}

// pageQuery reads the form. What is empty is not asked for.
func pageQuery(given url.Values, now time.Time) (q Query, kept url.Values, problems []string) {
	values := url.Values{}
	kept = url.Values{}
	for name, list := range given {
		for _, value := range list {
			if value = strings.TrimSpace(value); value == "" {
				continue
			}
			kept.Add(name, value)
			if name != "last" {
				values.Add(name, value)
			}
		}
	}
	q, problems = readQuery(values, drainFilters)
	if last := kept.Get("last"); last != "" {
		i := slices.IndexFunc(spans, func(s struct {
			value, name string
			length      time.Duration
		},
		) bool {
			return s.value == last
		})
		if i < 0 {
			problems = append(problems, "last="+last+": want 1h, 24h or 7d")
		} else {
			q.Since = now.Add(-spans[i].length)
		}
	}
	return q, kept, problems
}

func (l *Ledger) listPage(w http.ResponseWriter, r *http.Request) {
	q, kept, problems := pageQuery(r.URL.Query(), time.Now())
	p := &listPage{Title: "Pod stops", Filter: kept, Problems: problems, Cut: number{Text: "?"}, Late: number{Text: "?"}}
	for _, name := range append(outcomes(), unknown) {
		p.Outcomes = append(p.Outcomes, choice{Name: name, Chosen: kept.Get("outcome") == name})
	}
	for _, s := range spans {
		p.Spans = append(p.Spans, choice{s.name, s.value, kept.Get("last") == s.value})
	}
	p.Live = l.liveNow(r.Context())
	status := http.StatusOK
	if len(problems) > 0 {
		status = http.StatusBadRequest
	} else if err := l.fill(r, p, q); err != nil {
		status = http.StatusServiceUnavailable
		if errors.Is(err, errCursor) {
			status = http.StatusBadRequest
		}
		p.Problems = []string{err.Error()}
	}
	show(w, status, "list", p)
}

var errNoStore = errors.New("the store does not answer; the controller's log says why")

func (l *Ledger) fill(r *http.Request, p *listPage, q Query) error {
	store := l.opened()
	if store == nil {
		return errNoStore
	}
	ask := q
	ask.Limit, ask.After = pageRollouts, ""
	rollouts, err := store.Rollouts(r.Context(), ask)
	var sum Sum
	if err == nil {
		sum, err = store.Sums(r.Context(), q)
	}
	var drains Page[json.RawMessage]
	if err == nil {
		p.sums(sum)
		for _, o := range rollouts.Items {
			p.Rollouts = append(p.Rollouts, newRolloutRow(o))
		}
		ask = q
		ask.Limit = pageDrains
		drains, err = store.Drains(r.Context(), ask)
	}
	if err == nil {
		err = p.drains(drains)
	}
	if err != nil && !errors.Is(err, errCursor) {
		l.wrong(r.Context(), "show the page", err)
		return errNoStore
	}
	return err
}

func (p *listPage) sums(s Sum) {
	p.Stops, p.Unknown = s.Stops, s.Outcomes[unknown]
	p.NotClean = s.Stops - s.Outcomes["clean"] - s.Outcomes[unknown]
	if s.CutOf > 0 || s.Stops == 0 {
		p.Cut = sumOf(&s.Cut, s.CutOf, s.Stops)
	}
	if s.LateOf > 0 || s.Stops == 0 {
		p.Late = sumOf(&s.Late, s.LateOf, s.Stops)
	}
}

func newRolloutRow(o Rollout) rolloutRow {
	row := rolloutRow{
		Name: o.Workload.Kind + " " + o.Namespace + "/" + o.Workload.Name, Revision: cmp.Or(o.Revision, "–"), Last: clock(o.Last), Stops: o.Stops,
		P50: seconds(o.P50), P95: seconds(o.P95), Cut: sumOf(o.Cut, o.CutOf, o.Stops), Late: sumOf(o.Late, o.LateOf, o.Stops),
		Link: "./?" + url.Values{"namespace": {o.Namespace}, "kind": {o.Workload.Kind}, "workload": {o.Workload.Name}, "revision": {o.Revision}}.Encode(),
	}
	for _, name := range append(append([]string{unknown}, outcomes()...), others) { // what is bad stands first
		if n := o.Outcomes[name]; n > 0 {
			row.Outcomes = append(row.Outcomes, outcomeCount{n, name, classOf(name)})
		}
	}
	return row
}

func clock(m Moment) string { return m.UTC().Format("2006-01-02 15:04:05") }

func (p *listPage) drains(page Page[json.RawMessage]) error {
	for _, raw := range page.Items {
		row, err := newDrainRow(raw)
		if err != nil {
			return err
		}
		p.Drains = append(p.Drains, row)
	}
	if page.Next != "" {
		next := maps.Clone(p.Filter)
		next.Set("after", page.Next)
		p.Next = "./?" + next.Encode()
	}
	return nil
}

func newDrainRow(raw json.RawMessage) (*drainRow, error) {
	row := &drainRow{}
	if err := json.Unmarshal(raw, &row.Stop); err != nil {
		return nil, err
	}
	row.Name, row.Link, row.Class = row.Namespace+"/"+row.Pod.Name, "drain?"+url.Values{"id": {row.ID}}.Encode(), classOf(row.Outcome)
	row.Ended, row.Took, row.CutText, row.LateText = clock(row.EndedAt), seconds(row.TotalMS), one(row.Cut), one(row.Late)
	return row, nil
}

// show writes a page that loads nothing from elsewhere and may stand in nobody's frame.
func show(w http.ResponseWriter, status int, name string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	w.WriteHeader(status)
	_ = pageTemplates.ExecuteTemplate(w, name, data) // who asked is gone
}
