package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sizes of a page.
const usualPage, mostPage = 100, 1000

// API answers GET /api/v1/drains and GET /api/v1/rollouts, and has the page. It shows everything to whoever reaches it and changes nothing.
func (l *Ledger) API() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/drains", func(w http.ResponseWriter, r *http.Request) {
		serve(w, r, l, "drains", drainFilters, func(s Store, q Query) (any, string, error) {
			page, err := s.Drains(r.Context(), q)
			return notNull(page.Items), page.Next, err
		})
	})
	mux.HandleFunc("GET /api/v1/rollouts", func(w http.ResponseWriter, r *http.Request) {
		serve(w, r, l, "rollouts", rolloutFilters, func(s Store, q Query) (any, string, error) {
			page, err := s.Rollouts(r.Context(), q)
			return notNull(page.Items), page.Next, err
		})
	})
	l.page(mux)
	return mux
}

// notNull shows an empty list as [].
func notNull[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

func serve(w http.ResponseWriter, r *http.Request, l *Ledger, name string, filters []string, ask func(Store, Query) (any, string, error)) {
	q, problems := readQuery(r.URL.Query(), filters)
	store := l.opened()
	switch {
	case len(problems) > 0:
		answer(w, http.StatusBadRequest, map[string]any{"errors": problems})
		return
	case store == nil:
		answer(w, http.StatusServiceUnavailable, map[string]any{"errors": []string{"the store is not open yet; the controller's log says why"}})
		return
	}
	items, next, err := ask(store, q)
	switch {
	case errors.Is(err, errCursor):
		answer(w, http.StatusBadRequest, map[string]any{"errors": []string{err.Error()}})
	case err != nil:
		l.wrong(r.Context(), "answer "+name, err)
		answer(w, http.StatusServiceUnavailable, map[string]any{"errors": []string{"the store does not answer; the controller's log says why"}})
	default:
		answer(w, http.StatusOK, map[string]any{name: items, "next": orNull(next)})
	}
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func answer(w http.ResponseWriter, status int, what any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(what) // who asked is gone
}

// Parameters of the two calls.
var (
	rolloutFilters = []string{"namespace", "kind", "workload", "revision", "outcome", "since", "until", "limit", "after"}
	drainFilters   = append([]string{"pod", "node", "pod_stopped"}, rolloutFilters...)
)

// readQuery says all that is wrong with the parameters at once.
func readQuery(values url.Values, allowed []string) (q Query, problems []string) {
	bad := func(name, want string) {
		problems = append(problems, fmt.Sprintf("%s=%s: want %s", name, values.Get(name), want))
	}
	for name, given := range values {
		if !slices.Contains(allowed, name) {
			problems = append(problems, fmt.Sprintf("%s: no such parameter; there are %s", name, strings.Join(allowed, ", ")))
		} else if len(given) > 1 && name != "outcome" {
			bad(name, "it once")
		}
	}
	q = Query{
		Namespace: values.Get("namespace"), Kind: values.Get("kind"), Workload: values.Get("workload"), Revision: values.Get("revision"),
		Pod: values.Get("pod"), Node: values.Get("node"), Outcomes: values["outcome"], After: values.Get("after"), Limit: usualPage,
	}
	for name, to := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if text := values.Get(name); text != "" {
			at, err := time.Parse(time.RFC3339, text)
			if err != nil {
				bad(name, "a time such as 2006-01-02T15:04:05Z")
			}
			*to = at
		}
	}
	if text := values.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > mostPage {
			bad("limit", fmt.Sprintf("a number from 1 to %d", mostPage))
		}
		q.Limit = n
	}
	if text := values.Get("pod_stopped"); text != "" {
		is, err := strconv.ParseBool(text)
		if err != nil {
			bad("pod_stopped", "true or false")
		}
		q.Stopped = &is
	}
	slices.Sort(problems)
	return q, problems
}
