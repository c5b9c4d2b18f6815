package ledger

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics shows the sums of the store at each scrape, so that they are the same at every replica that shares it and outlive this
// process where the store does: take max by (…), not sum, over replicas.
type Metrics struct {
	ledger                                                         *Ledger
	stops, seconds, grace, cut, late, unread, failed, unsaid, pods *prometheus.Desc
}

func newMetrics(l *Ledger) *Metrics {
	workload := []string{"namespace", "kind", "workload"}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("drain_controller_"+name, help, labels, nil)
	}
	return &Metrics{
		ledger:  l,
		stops:   desc("stops_total", "Stops of pods with an agent, by outcome of the verdict; unknown: the pod left none.", append(workload, "outcome")...),
		seconds: desc("stop_seconds", "Time from the first sign of a stop to its verdict.", workload...),
		grace:   desc("stop_grace_seconds", "Grace periods of the stops that have a known time; their quantiles are not kept.", workload...),
		cut:     desc("requests_cut_total", "What was in flight when its process ended, as the verdicts say.", workload...),
		late:    desc("arrivals_after_release_total", "Requests that came after the first container was let go, as the verdicts say.", workload...),
		unread:  desc("stops_uncounted_total", "Stops that do not say how many requests were cut, or came late.", append(workload, "count")...),
		pods:    desc("pods_watched", "Pods with an agent that are there."),
		failed:  desc("ledger_errors_total", "Calls of the ledger's store that failed; each is tried again."),
		unsaid:  desc("ledger_events_left_out_total", "Stops that should have had an Event and have none, because there were too many or Kubernetes refused it."),
	}
}

// Describe is a prometheus.Collector's.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.stops, m.seconds, m.grace, m.cut, m.late, m.unread, m.failed, m.unsaid, m.pods} {
		to <- d
	}
}

// Collect is a prometheus.Collector's. While the store does not answer there are no sums, rather than zeros.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	l := m.ledger
	if store := l.opened(); store != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		all, err := store.Totals(ctx)
		if err != nil {
			l.failed.Add(1)
		}
		for _, group := range byWorkload(all) {
			m.workload(to, group)
		}
	}
	to <- prometheus.MustNewConstMetric(m.failed, prometheus.CounterValue, float64(l.failed.Load()))
	to <- prometheus.MustNewConstMetric(m.unsaid, prometheus.CounterValue, float64(l.unsaid.Load()))
	if n := l.watched.Load(); n >= 0 {
		to <- prometheus.MustNewConstMetric(m.pods, prometheus.GaugeValue, float64(n))
	}
}

// byWorkload divides what is in the order of workloads.
func byWorkload(all []Total) (groups [][]Total) {
	for start, i := 0, 0; i < len(all); i++ {
		if next := i + 1; next == len(all) || all[next].Namespace != all[i].Namespace || all[next].Kind != all[i].Kind || all[next].Workload != all[i].Workload {
			groups, start = append(groups, all[start:next]), next
		}
	}
	return groups
}

func (m *Metrics) workload(to chan<- prometheus.Metric, all []Total) {
	labels := []string{all[0].Namespace, all[0].Kind, all[0].Workload}
	sums := map[string]int64{}
	for _, outcome := range append(outcomes(), unknown) {
		if !slices.ContainsFunc(all, func(t Total) bool { return t.Name == "stops:"+outcome }) {
			to <- prometheus.MustNewConstMetric(m.stops, prometheus.CounterValue, 0, append(labels, outcome)...)
		}
	}
	for _, t := range all {
		sums[t.Name] = t.Value
		what, which, _ := strings.Cut(t.Name, ":")
		switch what {
		case "stops":
			to <- prometheus.MustNewConstMetric(m.stops, prometheus.CounterValue, float64(t.Value), append(labels, which)...)
		case "unread":
			to <- prometheus.MustNewConstMetric(m.unread, prometheus.CounterValue, float64(t.Value), append(labels, which)...)
		case "cut":
			to <- prometheus.MustNewConstMetric(m.cut, prometheus.CounterValue, float64(t.Value), labels...)
		case "late":
			to <- prometheus.MustNewConstMetric(m.late, prometheus.CounterValue, float64(t.Value), labels...)
		}
	}
	if sums["graced"] > 0 {
		to <- prometheus.MustNewConstSummary(m.grace, uint64(sums["graced"]), float64(sums["grace_s"]), nil, labels...) //nolint:gosec // a sum of ones
	}
	if sums["count"] == 0 {
		return
	}
	buckets, below := map[float64]uint64{}, int64(0)
	for _, most := range bounds() {
		below += sums["le:"+strconv.FormatInt(most, 10)]
		buckets[float64(most)/1000] = uint64(below) //nolint:gosec // a sum of ones
	}
	to <- prometheus.MustNewConstHistogram(m.seconds, uint64(sums["count"]), float64(sums["sum_ms"])/1000, buckets, labels...) //nolint:gosec // a sum of ones
}
