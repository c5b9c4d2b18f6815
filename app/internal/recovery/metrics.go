// Package recovery measures what an outage costs: how long until the service is back (RTO) and how old what it comes
// back with is (RPO).
package recovery

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drain-agent/drain-agent/app/internal/store"
)

const service = "payment-service"

// fresh is how old a mark may be for its replica to count as alive.
const fresh = 3 * time.Second

// Metrics are the collectors. Make them with New.
type Metrics struct {
	startup, recovery       prometheus.ObserverVec
	checks, inconsistencies *prometheus.CounterVec
	open                    *prometheus.GaugeVec
	version                 string
	began                   time.Time
	mu                      sync.Mutex
	marked                  time.Time     // when the last mark was written
	batchAge                time.Duration // of the oldest unfinished batch's checkpoint, as of marked
	failing                 time.Time     // since when the store has not taken our mark
	lastStop                time.Duration
	stopping                time.Time
	scraped                 bool
	held                    []func() // observations made before the first scrape
}

// New registers the metrics. began is when the process started.
func New(reg prometheus.Registerer, version string, began time.Time) *Metrics {
	m := &Metrics{version: version, began: began}
	histogram := func(name, help, label string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{"service", label})
	}
	startup := histogram("service_startup_duration_seconds", "From process start to ready.", "version",
		[]float64{0.1, 0.5, 1, 5, 10, 15, 30, 60, 120, 300, 600})
	// 15 and 900 are bucket bounds because they are the targets that are asked for: a share within a target can only be
	// read off at a bound.
	recovery := histogram("service_recovery_duration_seconds",
		"From the last sign of life of any replica, or the first failure of the store, to working again.", "failure_type",
		[]float64{1, 5, 10, 15, 30, 60, 300, 900, 3600})
	m.startup, m.recovery = startup, recovery
	m.checks = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "data_consistency_checks_total", Help: "Consistency checks by outcome: ok, inconsistent, error.",
	}, []string{"service", "check_type", "status"})
	m.inconsistencies = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "data_inconsistencies_detected_total", Help: "Inconsistencies, each counted when it is first seen.",
	}, []string{"service", "inconsistency_type", "severity"})
	m.open = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "data_inconsistencies_open", Help: "Inconsistencies the last check by this replica left for a person.",
	}, []string{"service", "inconsistency_type"})
	reg.MustRegister(startup, recovery, m.checks, m.inconsistencies, m.open)
	for _, kind := range store.CheckKinds() { // so that rates start at zero and not at the first accident
		for _, status := range []string{"ok", "inconsistent", "error"} {
			m.checks.WithLabelValues(service, kind, status)
		}
		for _, severity := range []string{"warning", "critical"} {
			m.inconsistencies.WithLabelValues(service, kind, severity)
		}
	}
	m.startup.WithLabelValues(service, version)
	for _, failure := range []string{"crash", "planned", "store"} {
		m.recovery.WithLabelValues(service, failure)
	}
	m.gauge(reg, "last_checkpoint_age_seconds", "Age of what a crash right now would fall back to.",
		prometheus.Labels{"service": service, "checkpoint_type": "alive"}, m.aliveAge)
	m.gauge(reg, "last_checkpoint_age_seconds", "Age of what a crash right now would fall back to.",
		prometheus.Labels{"service": service, "checkpoint_type": "batch"}, m.oldestBatch)
	m.gauge(reg, "service_shutdown_duration_seconds",
		"How long the stop under way has taken; before that, how long the last orderly stop of any replica took.",
		prometheus.Labels{"service": service}, m.shutdown)
	return m
}

func (m *Metrics) gauge(reg prometheus.Registerer, name, help string, labels prometheus.Labels, value func() float64) {
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 {
		m.mu.Lock()
		defer m.mu.Unlock()
		return value()
	}))
}

func (m *Metrics) aliveAge() float64 {
	if m.marked.IsZero() {
		return time.Since(m.began).Seconds()
	}
	return time.Since(m.marked).Seconds()
}

func (m *Metrics) oldestBatch() float64 {
	if m.batchAge == 0 {
		return 0
	}
	return (m.batchAge + time.Since(m.marked)).Seconds()
}

func (m *Metrics) shutdown() float64 {
	if m.stopping.IsZero() {
		return m.lastStop.Seconds()
	}
	return time.Since(m.stopping).Seconds()
}

// count makes an observation, once a first scrape has seen the value before it: a counter that is already 1 when it is
// first seen has no increase, and what happens during a start would never be counted.
func (m *Metrics) count(observe func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.scraped {
		observe()
		return
	}
	m.held = append(m.held, observe)
}

// Scraped says that somebody has just read all metrics.
func (m *Metrics) Scraped() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scraped = true
	for _, observe := range m.held {
		observe()
	}
	m.held = nil
}

// Ready measures the start that has just ended, and the outage before it if there was one. Call it once, before the
// first Mark.
func (m *Metrics) Ready(ctx context.Context, s *store.Store, replica string, log *slog.Logger) error {
	outage, was, err := s.LastAlive(ctx, replica, fresh)
	if err != nil {
		return fmt.Errorf("measure the recovery: %w", err)
	}
	stop, err := s.LastStop(ctx)
	if err != nil {
		return fmt.Errorf("measure the recovery: %w", err)
	}
	m.mu.Lock()
	m.lastStop = stop
	m.mu.Unlock()
	started := time.Since(m.began)
	m.count(func() { m.startup.WithLabelValues(service, m.version).Observe(started.Seconds()) })
	if was {
		m.recovered(ctx, map[bool]string{true: "crash", false: "planned"}[outage.Crash], outage.Since, log)
	}
	return nil
}

func (m *Metrics) recovered(ctx context.Context, failure string, took time.Duration, log *slog.Logger) {
	m.count(func() { m.recovery.WithLabelValues(service, failure).Observe(took.Seconds()) })
	log.InfoContext(ctx, "recovered", "failure_type", failure, "recovery_ms", took.Milliseconds())
}

// Mark writes a sign of life and measures outages of the store. It is the store's health check.
func (m *Metrics) Mark(ctx context.Context, s *store.Store, replica string, log *slog.Logger) error {
	age, err := s.Mark(ctx, replica)
	m.mu.Lock()
	failing := m.failing
	if err != nil && failing.IsZero() {
		m.failing = time.Now()
	}
	if err == nil {
		m.marked, m.batchAge, m.failing = time.Now(), age, time.Time{}
	}
	m.mu.Unlock()
	switch {
	case err != nil && failing.IsZero():
		log.WarnContext(ctx, "the store does not take writes", "error", err)
	case err == nil && !failing.IsZero():
		m.recovered(ctx, "store", time.Since(failing), log)
	}
	return err
}

// Stopping notes that a stop begins.
func (m *Metrics) Stopping() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopping = time.Now()
}

// StopTook is how long the stop has taken so far.
func (m *Metrics) StopTook() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.stopping)
}

// Checked counts one consistency check: how many findings are new, and how many there are.
func (m *Metrics) Checked(kind, severity string, fresh, all int, err error) {
	status := "ok"
	switch {
	case err != nil:
		status = "error"
	case all > 0:
		status = "inconsistent"
	}
	m.count(func() {
		m.checks.WithLabelValues(service, kind, status).Inc()
		m.inconsistencies.WithLabelValues(service, kind, severity).Add(float64(fresh))
	})
	m.open.WithLabelValues(service, kind).Set(float64(all))
}
