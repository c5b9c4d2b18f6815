package ledger

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/pgtest"
)

// BenchmarkLedger keeps 100,000 of 110,000 verdicts of 2,000 workloads, each with curves of 120 and 60 points, and asks for them: the median
// of eleven each. make bench runs it; alone:
//
//	go test -run '^$' -bench '^BenchmarkLedger$' -benchtime 1x ./deploy/controller/internal/ledger
func BenchmarkLedger(b *testing.B) {
	const rows, more, workloads = 100_000, 10_000, 2000
	for kind, name := range map[string]func() string{
		"memory": func() string { return "memory" }, "sqlite": func() string { return "sqlite:" + filepath.Join(b.TempDir(), "ledger.db") },
		"postgresql": func() string { return pgtest.Start(b).NewDatabase() },
	} {
		b.Run(kind, func(b *testing.B) {
			limits := Limits{Age: 365 * 24 * time.Hour, Rows: rows, Workloads: 500}
			s := open(b, name(), limits)
			figures := map[string]float64{} // a loop forgets what was reported before it
			begin := time.Now()
			for i := range rows + more {
				stop := stopAt(strconv.Itoa(i), i, func(s *Stop) {
					s.Workload.Name, s.Revision, s.Verdict = fmt.Sprintf("web-%d", i%workloads), fmt.Sprintf("r%d", i/20_000), curveOf(i)
					if i%100 == 0 {
						s.Outcome, s.Cut = "deadline", new(int64(2))
					}
				})
				if _, err := s.Add(b.Context(), stop); err != nil {
					b.Fatal(err)
				}
			}
			figures["us/add"] = float64(time.Since(begin).Microseconds()) / (rows + more)
			begin = time.Now()
			if err := s.Prune(b.Context(), noon.Add((rows+more)*time.Second)); err != nil {
				b.Fatal(err)
			}
			figures["ms/prune"] = ms(time.Since(begin))
			l := ledgerOf(s)
			registry, api := prometheus.NewRegistry(), l.API()
			registry.MustRegister(newMetrics(l))
			if n := strings.Count(fetched(b, api, "/api/v1/drains?limit=1000&since=2026-03-01T12:00:00Z"), `"id"`); n != 1000 {
				b.Fatalf("%d rows on a page", n)
			}
			next := "/api/v1/drains?limit=1000"
			for range 60 { // deep into the pages
				next = "/api/v1/drains?limit=1000&after=" + cursorIn(b, fetched(b, api, next))
			}
			for what, ask := range map[string]func(){
				"page": func() { fetched(b, api, "/api/v1/drains") },
				"deep": func() { fetched(b, api, strings.Replace(next, "1000", "100", 1)) },
				"filter": func() {
					fetched(b, api, "/api/v1/drains?namespace=shop&workload=web-7&outcome=deadline&outcome=unknown")
				},
				"rollouts": func() { fetched(b, api, "/api/v1/rollouts") },
				"html":     func() { fetched(b, api, "/") },
				"sums": func() {
					if _, err := s.Sums(b.Context(), Query{}); err != nil {
						b.Fatal(err)
					}
				},
				"metrics": func() {
					families, err := registry.Gather()
					if err != nil {
						b.Fatal(err)
					}
					if n := len(families[slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "drain_controller_stops_total" })].Metric); n > (limits.Workloads+1)*11 {
						b.Fatalf("%d series", n)
					}
				},
			} {
				var took []time.Duration
				for range 11 {
					begin := time.Now()
					ask()
					took = append(took, time.Since(begin))
				}
				slices.Sort(took)
				figures["ms/"+what] = ms(took[len(took)/2])
			}
			debug.FreeOSMemory()
			figures["MiB"] = resident(b)
			for b.Loop() {
				fetched(b, api, "/api/v1/drains")
			}
			for unit, n := range figures {
				b.ReportMetric(n, unit)
			}
		})
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func curveOf(i int) json.RawMessage {
	var curve strings.Builder
	for at := range 120 {
		fmt.Fprintf(&curve, ",[%d,%d]", at*70+i%7, (120-at)/4)
	}
	var came strings.Builder
	for at := range timeline.MaxArrivals {
		fmt.Fprintf(&came, ",[%d,%d,%d,%d]", at*140+i%7, at*29, at/2, (120-at)/4)
	}
	return json.RawMessage(`{"msg":"verdict","outcome":"clean","phases":{"announcing":1500,"draining":6000},"in_flight_curve":[` + curve.String()[1:] + `],"requests_per_second":207,"arrivals_curve":[` + came.String()[1:] + `],"reason":"every source read zero and nobody sends any more"}`)
}

func fetched(b *testing.B, h http.Handler, path string) string {
	b.Helper()
	status, text := call(h, http.MethodGet, path)
	if status != http.StatusOK {
		b.Fatalf("%s: %d %s", path, status, text)
	}
	return text
}

func cursorIn(b *testing.B, text string) string {
	b.Helper()
	found := regexp.MustCompile(`"next":"([^"]+)"`).FindStringSubmatch(text)
	if found == nil {
		b.Fatal("the last page")
	}
	return found[1]
}

// resident is what this process holds, the test's own program with it.
func resident(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	kib, _ := strconv.ParseFloat(regexp.MustCompile(`VmRSS:\s+(\d+)`).FindStringSubmatch(string(text))[1], 64)
	return kib / 1024
}
