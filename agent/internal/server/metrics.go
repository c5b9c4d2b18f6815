package server

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Buckets in seconds, from the idle pod to the longest grace period in use, and for a query of Envoy's admin.
var (
	drainBuckets = []float64{0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800}
	pollBuckets  = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5}
)

// MetricsOptions are the label values that are known from the start. Their series exist from the start, so that a rate over
// the first event is seen; no other value of phase, outcome or container ever becomes a label.
type MetricsOptions struct {
	Version, Revision, GoVersion string   // of drain_agent_build_info
	Phases                       []string // the first one is current
	Outcomes                     []string
	Containers                   []string // that have a hook; a hook of any other name is counted under container="other"
}

// Metrics is everything on GET /metrics. What is unknown has no sample: it is never shown as 0.
// All methods are safe for concurrent use.
type Metrics struct {
	registry   *prometheus.Registry
	containers map[string]bool

	phase         *prometheus.GaugeVec
	drains        *prometheus.CounterVec
	drainSeconds  prometheus.Histogram
	phaseSeconds  *prometheus.HistogramVec
	inFlight      *prometheus.GaugeVec
	inFlightClass *prometheus.GaugeVec
	inFlightKnown *prometheus.GaugeVec
	connections   prometheus.Counter
	score         *prometheus.GaugeVec
	holdSeconds   *prometheus.HistogramVec
	pollSeconds   prometheus.Histogram
	pollErrors    *prometheus.CounterVec
	unknownHooks  prometheus.Counter

	mu    sync.Mutex
	now   string                     // the current phase
	known map[string]map[string]bool // by side and rung; of the proxy the rung that is shown only
}

// NewMetrics returns the metrics on a registry of their own.
func NewMetrics(opts MetricsOptions) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), containers: map[string]bool{}, known: map[string]map[string]bool{"proxy": {}, "app": {}}}
	m.make()
	m.registry.MustRegister(m.phase, m.drains, m.drainSeconds, m.phaseSeconds, m.inFlight, m.inFlightClass, m.inFlightKnown, m.connections, m.score,
		m.holdSeconds, m.pollSeconds, m.pollErrors, m.unknownHooks, buildInfo(opts))
	for _, phase := range opts.Phases {
		m.phase.WithLabelValues(phase).Set(0)
		m.phaseSeconds.WithLabelValues(phase)
	}
	if len(opts.Phases) > 0 {
		m.SetPhase(opts.Phases[0])
	}
	for _, outcome := range opts.Outcomes {
		m.drains.WithLabelValues(outcome)
	}
	for _, container := range opts.Containers {
		m.containers[container] = true
		m.holdSeconds.WithLabelValues(container)
	}
	return m
}

func (m *Metrics) make() {
	m.phase = gauge("phase", "1 for the phase the agent is in, 0 for the others.", "phase")
	m.drains = counter("drains_total", "Drains that ended, by outcome.", "outcome")
	m.drainSeconds = histogram("drain_duration_seconds", "Time from the first fact of a stop to its verdict.", drainBuckets)
	m.phaseSeconds = histogramVec("phase_duration_seconds", "Time spent in a phase, counted when it is left.", "phase")
	m.inFlight = gauge("in_flight", "Requests in flight, and the source that said so. No sample while unknown.", "side", "rung")
	m.inFlightClass = gauge("in_flight_class", "The part of the requests in flight whose class the source tells.", "side", "rung", "class")
	m.inFlightKnown = gauge("in_flight_known", "1 while the requests in flight are known, else 0.", "side")
	m.connections = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "drain_agent_new_connections_total", Help: "Inbound connections that came after a stop began.",
	})
	m.score = gauge("score", "Requests that stopping now would be expected to hit. No sample while unknown.")
	m.holdSeconds = histogramVec("hook_hold_seconds", "Time a stop hook was held.", "container")
	m.pollSeconds = histogram("proxy_poll_duration_seconds", "Time a query of the proxy's admin interface took.", pollBuckets)
	m.pollErrors = counter("proxy_poll_errors_total", "Queries of the proxy's admin interface that failed.", "kind")
	m.unknownHooks = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "drain_agent_unknown_hooks_total", Help: "Hook calls under a name that --hooks does not list.",
	})
	for _, side := range []string{"proxy", "app"} {
		m.inFlightKnown.WithLabelValues(side).Set(0)
	}
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "drain_agent_" + name, Help: help}, labels)
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "drain_agent_" + name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "drain_agent_" + name, Help: help, Buckets: buckets})
}

func histogramVec(name, help, label string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "drain_agent_" + name, Help: help, Buckets: drainBuckets}, []string{label})
}

func buildInfo(opts MetricsOptions) prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "drain_agent_build_info", Help: "1; the labels say which build this is.",
		ConstLabels: prometheus.Labels{"version": opts.Version, "revision": opts.Revision, "goversion": opts.GoVersion},
	})
	info.Set(1)
	return info
}

// Handler serves the metrics in the format the scraper asks for.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// SetPhase makes phase the current one.
func (m *Metrics) SetPhase(phase string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now != "" {
		m.phase.WithLabelValues(m.now).Set(0)
	}
	m.now = phase
	m.phase.WithLabelValues(phase).Set(1)
}

// PhaseLeft counts the time that was spent in a phase.
func (m *Metrics) PhaseLeft(phase string, spent time.Duration) {
	m.phaseSeconds.WithLabelValues(phase).Observe(spent.Seconds())
}

// Verdict counts a drain that ended with an outcome after the given time since its first fact.
func (m *Metrics) Verdict(outcome string, total time.Duration) {
	m.drains.WithLabelValues(outcome).Inc()
	m.drainSeconds.Observe(total.Seconds())
}

// Classes shows the part of a reading whose class its source tells, in place of what the source told before.
func (m *Metrics) Classes(side, rung string, classes map[string]int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if side == "proxy" { // whose rungs take turns
		m.inFlightClass.DeletePartialMatch(prometheus.Labels{"side": side})
	}
	m.inFlightClass.DeletePartialMatch(prometheus.Labels{"side": side, "rung": rung})
	for class, n := range classes {
		m.inFlightClass.WithLabelValues(side, rung, class).Set(float64(n))
	}
}

// InFlight shows a side's count, "proxy" or "app", and where it came from: the rung of the ladder, of which there is one at a time,
// or one of the app's sources, of which every one must be known for the side to be. Known false takes the count away.
func (m *Metrics) InFlight(side, rung string, n int64, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[side][rung] = known
	all := 1.0
	for one, is := range m.known[side] {
		switch {
		case side == "proxy" && one != rung:
			m.inFlight.DeleteLabelValues(side, one)
			delete(m.known[side], one)
		case !is:
			m.inFlight.DeleteLabelValues(side, one)
			all = 0
		}
	}
	if known {
		m.inFlight.WithLabelValues(side, rung).Set(float64(n))
	}
	m.inFlightKnown.WithLabelValues(side).Set(all)
}

// NewConnections counts inbound connections that came after a stop began.
func (m *Metrics) NewConnections(n int64) { m.connections.Add(float64(n)) }

// Score shows the stopping score. Known false takes it away.
func (m *Metrics) Score(score float64, known bool) {
	if !known {
		m.score.DeleteLabelValues()
		return
	}
	m.score.WithLabelValues().Set(score)
}

// Hold counts a hook that was answered after being held for the given time.
func (m *Metrics) Hold(container string, held time.Duration) {
	if !m.containers[container] {
		container = "other" // whoever can reach the port makes up names
	}
	m.holdSeconds.WithLabelValues(container).Observe(held.Seconds())
}

// Poll counts a query of the proxy's admin interface: the time it took and, unless it is empty, the kind of its failure.
func (m *Metrics) Poll(took time.Duration, failure string) {
	m.pollSeconds.Observe(took.Seconds())
	if failure != "" {
		m.pollErrors.WithLabelValues(failure).Inc()
	}
}

// UnknownHook counts a hook call under a name that is not configured.
func (m *Metrics) UnknownHook() { m.unknownHooks.Inc() }
