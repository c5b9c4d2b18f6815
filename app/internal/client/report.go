package client

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
)

// Retries back off: a thousand clients that insist every 20 ms keep a service down that is just coming back.
const (
	retryPause    = 20 * time.Millisecond
	maxRetryPause = time.Second
)

// quickReconnect finds a restarted service soon; gRPC's default waits a second and more.
var quickReconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.3, Jitter: 0.2, MaxDelay: 250 * time.Millisecond},
	MinConnectTimeout: time.Second,
}

// Report is what came of it.
type Report struct {
	Sent      int            `json:"sent"`
	OK        int            `json:"ok"`
	NotSent   int            `json:"not_sent"` // concurrency was used up
	Retries   int            `json:"retries"`
	Failures  map[string]int `json:"failures"` // by gRPC code, after retries if any
	LatencyMs Latency        `json:"latency_ms"`
	Ledger    Ledger         `json:"ledger"`
}

// Latency is of successful requests, in milliseconds from when each was due.
type Latency struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Ledger is the comparison of what was acknowledged with what is booked.
type Ledger struct {
	Checked      bool   `json:"checked"`
	Problem      string `json:"problem,omitempty"` // why it could not be checked
	Acknowledged int    `json:"acknowledged"`      // different keys
	Lost         int    `json:"lost"`
	Doubled      int    `json:"doubled"`
}

// Text is the report for people.
func (r *Report) Text() string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "sent %d  ok %d  not sent %d  retries %d\n", r.Sent, r.OK, r.NotSent, r.Retries)
	for _, code := range slices.Sorted(maps.Keys(r.Failures)) {
		_, _ = fmt.Fprintf(&b, "  failed %-18s %d\n", code, r.Failures[code])
	}
	l := r.LatencyMs
	_, _ = fmt.Fprintf(&b, "latency ms  p50 %.1f  p90 %.1f  p99 %.1f  max %.1f\n", l.P50, l.P90, l.P99, l.Max)
	if !r.Ledger.Checked {
		_, _ = fmt.Fprintf(&b, "ledger: NOT CHECKED, %s\n", r.Ledger.Problem)
		return b.String()
	}
	_, _ = fmt.Fprintf(&b, "ledger: %d acknowledged, %d lost, %d doubled\n", r.Ledger.Acknowledged, r.Ledger.Lost, r.Ledger.Doubled)
	return b.String()
}

// tally collects while requests run.
type tally struct {
	mu      sync.Mutex
	hist    *hdrhistogram.Histogram // microseconds
	codes   map[codes.Code]int
	skipped int
	retries int
	acked   map[string]string // key to payment id
}

func newTally() *tally {
	return &tally{
		hist:  hdrhistogram.New(1, int64(10*time.Minute/time.Microsecond), 3),
		codes: map[codes.Code]int{}, acked: map[string]string{},
	}
}

func (t *tally) done(code codes.Code, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.codes[code]++
	if code == codes.OK {
		_ = t.hist.RecordValue(min(took.Microseconds(), t.hist.HighestTrackableValue()))
	}
}

func (t *tally) acknowledged(key, id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.acked[key] = id
}

func (t *tally) notSent() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.skipped++
}

func (t *tally) retried() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retries++
}

func (t *tally) progress(since time.Duration) string {
	r := t.report()
	failed := r.Sent - r.OK
	return fmt.Sprintf("%3.0f s  ok %d  failed %d  retries %d  p99 %.1f ms", since.Seconds(), r.OK, failed, r.Retries, r.LatencyMs.P99)
}

func (t *tally) report() *Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &Report{NotSent: t.skipped, Retries: t.retries, Failures: map[string]int{}}
	for code, n := range t.codes {
		r.Sent += n
		if code == codes.OK {
			r.OK = n
		} else {
			r.Failures[code.String()] = n
		}
	}
	ms := func(q float64) float64 { return float64(t.hist.ValueAtQuantile(q)) / 1000 }
	r.LatencyMs = Latency{P50: ms(50), P90: ms(90), P99: ms(99), Max: float64(t.hist.Max()) / 1000}
	return r
}
