// Package mgmt serves the management port: metrics, probes, the in-flight count, and the levers of tests and agents.
// Keep it off the Service: whoever reaches it can drain this replica.
package mgmt

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/drain-agent/drain-agent/app/internal/inflight"
	"github.com/drain-agent/drain-agent/app/internal/lifecycle"
	"github.com/drain-agent/drain-agent/probes"
)

// Config is what the management port shows and moves. Every field but Profiling is required.
type Config struct {
	State     *lifecycle.State
	Inflight  *inflight.Counter
	Registry  *prometheus.Registry
	Probes    *probes.Registry
	Toggle    func() (healthy bool)   // flips the simulated dependency
	BankFault func(mode string) error // makes the fake bank misbehave
	Scraped   func()                  // called after each answer of /metrics
	Profiling bool                    // serve /debug/pprof/
}

// Handler returns the routes.
//
//	GET /metrics               Prometheus text
//	GET /inflight              {"active_requests":n}
//	POST /toggle-health        the simulated dependency breaks, or works again
//	GET|POST /drain            long-lived work ends, everybody is asked to go; DELETE takes it back
//	POST /bank-fault?mode=     none, fail, hang, flaky
//	GET /startupz /livez /readyz /syntheticz
func (c Config) Handler() http.Handler {
	mux := http.NewServeMux()
	metrics := promhttp.HandlerFor(c.Registry, promhttp.HandlerOpts{})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		metrics.ServeHTTP(w, r)
		c.Scraped()
	})
	mux.HandleFunc("GET /inflight", c.inflight)
	mux.HandleFunc("POST /toggle-health", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "dependency healthy: %v\n", c.Toggle())
	})
	mux.HandleFunc("POST /bank-fault", func(w http.ResponseWriter, r *http.Request) {
		if err := c.BankFault(r.URL.Query().Get("mode")); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	for _, lever := range []string{"/toggle-health", "/bank-fault"} {
		mux.HandleFunc(lever, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, fmt.Sprintf("%s changes something, so %s does nothing here. Type: curl -X POST 'http://%s%s'",
				lever, r.Method, r.Host, r.URL.RequestURI()), http.StatusMethodNotAllowed)
		})
	}
	drain := func(w http.ResponseWriter, r *http.Request) {
		c.State.Drain()
		c.inflight(w, r)
	}
	mux.HandleFunc("GET /drain", drain)
	mux.HandleFunc("POST /drain", drain)
	mux.HandleFunc("DELETE /drain", func(w http.ResponseWriter, r *http.Request) {
		c.State.Undrain()
		c.inflight(w, r)
	})
	c.Probes.RegisterHTTP(mux)
	if c.Profiling {
		profiles(mux)
	}
	return mux
}

func (c Config) inflight(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"active_requests": c.Inflight.Total(),
		"draining":        c.State.IsDraining(),
	})
}

func profiles(mux *http.ServeMux) {
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
}

// Register exposes the count and the state: active_requests, active_work{kind}, is_healthy, is_shutting_down,
// is_draining. healthy is asked at every scrape.
func Register(reg prometheus.Registerer, state *lifecycle.State, count *inflight.Counter, healthy func() bool) {
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
	}
	gauge("active_requests", "Work in flight of every kind; zero means that a stop cuts nothing.", nil,
		func() float64 { return float64(count.Total()) })
	for _, kind := range inflight.Kinds() {
		gauge("active_work", "Work in flight, by kind.", prometheus.Labels{"kind": string(kind)},
			func() float64 { return float64(count.Of(kind)) })
	}
	gauge("is_healthy", "1 while this replica wants traffic: the answer of its readiness probe.", nil,
		func() float64 { return flag(healthy()) })
	gauge("is_shutting_down", "1 from the moment the process was told to end.", nil,
		func() float64 { return flag(state.IsStopping()) })
	gauge("is_draining", "1 while long-lived work is asked to end.", nil,
		func() float64 { return flag(state.IsDraining()) })
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
