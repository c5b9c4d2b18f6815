package openloop

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Failure is one request that was not served with 200 or OK.
type Failure struct {
	At      time.Time `json:"at"` // sent
	AfterMS int64     `json:"after_ms"`
	Client  Client    `json:"client"`
	WorkMS  int64     `json:"work_ms"`
	Reused  bool      `json:"reused"` // on a connection that had served a request before (not known for gRPC)
	Kind    string    `json:"kind"`
	Detail  string    `json:"detail"`
}

// Latency is that of the served requests which asked for the same work, in milliseconds.
type Latency struct {
	WorkMS int64   `json:"work_ms"`
	N      int     `json:"n"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`
}

// Report is what became of all requests.
type Report struct {
	Requests   int            `json:"requests"`
	Failed     int            `json:"failed"`
	Abandoned  int            `json:"abandoned"` // under way when the caller gave up: neither served nor failed
	Seconds    float64        `json:"seconds"`
	ByKind     map[string]int `json:"failed_by_kind"`
	ByClient   map[Client]int `json:"failed_by_client"`
	Served     map[Client]int `json:"served_by_client"`
	Latencies  []Latency      `json:"latencies"`
	Dials      int64          `json:"dials"`
	IdleClosed int            `json:"idle_closed"` // connections the server closed while nothing was under way
	ToldToGo   int            `json:"told_to_go"`  // connections the server asked us to leave
	GRPCMoved  int64          `json:"grpc_moved"`  // calls that provably reached no handler and that grpc-go moved
	LatestMS   float64        `json:"latest_ms"`   // how late the generator itself was at worst
	Failures   []Failure      `json:"failures"`
}

// Snapshot is a look at a running generator.
type Snapshot struct {
	Sent, UnderWay, Failed int
}

// Snapshot returns the counts so far.
func (g *Generator) Snapshot() Snapshot {
	g.tally.mu.Lock()
	defer g.tally.mu.Unlock()
	return Snapshot{Sent: g.tally.sent, UnderWay: g.tally.underWay, Failed: len(g.tally.failures)}
}

func (g *Generator) report() Report {
	t := g.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	r := Report{
		Requests: t.sent, Failed: len(t.failures), Abandoned: t.abandoned, Seconds: g.took.Seconds(),
		ByKind: map[string]int{}, ByClient: map[Client]int{}, Served: maps.Clone(t.served),
		Dials: g.dialer.dials.Load(), IdleClosed: t.idle, ToldToGo: t.toldToGo, GRPCMoved: g.channels.moved.calls.Load(),
		LatestMS: float64(t.latest.Microseconds()) / 1000,
		Failures: slices.SortedFunc(slices.Values(t.failures), func(a, b Failure) int { return a.At.Compare(b.At) }),
	}
	for _, f := range t.failures {
		r.ByKind[f.Kind]++
		r.ByClient[f.Client]++
	}
	for _, work := range slices.Sorted(maps.Keys(t.took)) {
		ms := slices.Sorted(slices.Values(t.took[work]))
		r.Latencies = append(r.Latencies, Latency{
			WorkMS: work.Milliseconds(), N: len(ms), P50: ms[len(ms)/2], P99: ms[len(ms)*99/100], Max: ms[len(ms)-1],
		})
	}
	return r
}

// Narrower says in what the load was narrower than its plan: a client of which nothing was served, or less than nine tenths
// of the requests sent. Empty: it was as wide as meant.
func (r Report) Narrower(plan Plan) (all []string) {
	clients, rate := []Client{}, plan.Rate
	for client, share := range plan.Clients {
		if plan.Rate > 0 && share > 0 {
			clients = append(clients, client)
		}
	}
	if plan.Slow > 0 {
		clients = append(clients, Slow)
		rate += float64(plan.Slow) / plan.SlowEvery.Seconds()
	}
	slices.Sort(clients)
	for _, client := range clients {
		if r.Served[client] == 0 {
			all = append(all, fmt.Sprintf("nothing of %s was served", client))
		}
	}
	if planned := rate * r.Seconds; float64(r.Requests) < 0.9*planned {
		all = append(all, fmt.Sprintf("%d requests in %.0f s, planned were %.0f", r.Requests, r.Seconds, planned))
	}
	return all
}

// Kinds returns the failures by kind, most frequent first, as in "eof 12, 503 3".
func (r Report) Kinds() string {
	kinds := slices.SortedFunc(maps.Keys(r.ByKind), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.ByKind[b], r.ByKind[a]), cmp.Compare(a, b))
	})
	for i, kind := range kinds {
		kinds[i] = fmt.Sprintf("%s %d", kind, r.ByKind[kind])
	}
	return strings.Join(kinds, ", ")
}

// Write prints the report for people.
func (r Report) Write(w io.Writer) {
	fmt.Fprintf(w, "%d requests in %.1f s, %d failed", r.Requests, r.Seconds, r.Failed)
	if r.Failed > 0 {
		fmt.Fprintf(w, " (%s)", r.Kinds())
	}
	fmt.Fprintf(w, "\nconnections: %d opened, %d left because the server asked for it, %d closed by it while idle\n",
		r.Dials, r.ToldToGo, r.IdleClosed)
	for _, l := range r.Latencies {
		fmt.Fprintf(w, "work %5d ms: %6d served, median %.0f ms, 99 %% %.0f ms, worst %.0f ms\n", l.WorkMS, l.N, l.P50, l.P99, l.Max)
	}
	if r.GRPCMoved > 0 {
		fmt.Fprintf(w, "grpc-go moved %d calls that reached no handler\n", r.GRPCMoved)
	}
	if r.LatestMS > 100 {
		fmt.Fprintf(w, "the generator itself was up to %.0f ms late: this machine is busy\n", r.LatestMS)
	}
}
