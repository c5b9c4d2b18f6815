package probes

import (
	"fmt"
	"net/http"
	"strings"
)

// paths of the questions, named as Kubernetes' own components name them.
var paths = map[Question]string{Startup: "/startupz", Liveness: "/livez", Readiness: "/readyz", Synthetic: "/syntheticz"}

// RegisterHTTP adds GET /startupz, /livez, /readyz and /syntheticz to the mux, and below each of them the single checks, as in
// GET /readyz/database. The answer is 200 or 503 with a text that names the failing checks, 404 for a check that does not
// exist. With ?verbose all checks are named also when all is well.
func (r *Registry) RegisterHTTP(mux *http.ServeMux) {
	for question, path := range paths {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, req *http.Request) {
			writeReport(w, req, path, r.Ask(req.Context(), question))
		})
		mux.HandleFunc("GET "+path+"/{check}", func(w http.ResponseWriter, req *http.Request) {
			report, ok := r.AskOne(req.Context(), question, req.PathValue("check"))
			if !ok {
				http.Error(w, "no such check", http.StatusNotFound)
				return
			}
			writeReport(w, req, req.URL.Path, report)
		})
	}
}

func writeReport(w http.ResponseWriter, req *http.Request, path string, report Report) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	text := "ok\n"
	if _, verbose := req.URL.Query()["verbose"]; verbose || !report.OK {
		text = report.String() + path[1:] + " check " + map[bool]string{true: "passed", false: "failed"}[report.OK] + "\n"
	}
	if !report.OK {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = fmt.Fprint(w, text)
}

// String lists the results, a line each: "[+]name ok", "[-]name failed: reason", or "[~]name degraded: reason" for a failure
// that does not count.
func (r Report) String() string {
	var b strings.Builder
	for _, result := range r.Results {
		switch {
		case result.Err == nil:
			fmt.Fprintf(&b, "[+]%s ok\n", result.Name)
		case result.Counts:
			fmt.Fprintf(&b, "[-]%s failed: %s\n", result.Name, oneLine(result.Err))
		default:
			fmt.Fprintf(&b, "[~]%s degraded: %s\n", result.Name, oneLine(result.Err))
		}
	}
	return b.String()
}

// oneLine keeps joined errors from looking like further results.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(c rune) bool { return c == '\n' || c == '\r' }), "; ")
}
