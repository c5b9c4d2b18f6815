package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/drain-agent/drain-agent/app/api"
	"github.com/drain-agent/drain-agent/app/internal/demo"
	"github.com/drain-agent/drain-agent/app/internal/inflight"
	"github.com/drain-agent/drain-agent/app/internal/lifecycle"
	"github.com/drain-agent/drain-agent/app/internal/mgmt"
	"github.com/drain-agent/drain-agent/app/internal/port"
)

type serveCmd struct {
	Host         string        `default:"" help:"Address to bind, empty for all."`
	Port         int           `default:"8080" help:"HTTP/1.1, HTTP/2 without TLS and gRPC."`
	MgmtPort     int           `default:"8090" help:"Metrics, probes, drain, toggles."`
	StartupDelay time.Duration `default:"0s" help:"Pretend that initialisation takes this long."`
	StopTimeout  time.Duration `default:"25s" help:"From the stop signal to the end of the process, whatever is in flight."`
}

// Run serves until ctx ends, then stops in order. The error is nil when nothing was cut off.
func (c *serveCmd) Run(ctx context.Context, log *slog.Logger) error {
	state, count, reg := lifecycle.New(), &inflight.Counter{}, prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mgmt.Register(reg, state, count)
	var healthy atomic.Bool
	healthy.Store(true)
	ready := func() bool { return state.IsStarted() && healthy.Load() && !state.IsStopping() }
	probes := http.NewServeMux()
	probe := func(path string, ok func() bool) {
		probes.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			if !ok() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
	}
	probe("/startupz", state.IsStarted)
	probe("/livez", func() bool { return true })
	probe("/readyz", ready)
	management, err := port.Listen(ctx, c.addr(c.MgmtPort), mgmt.Config{
		State: state, Inflight: count, Registry: reg, Probes: probes,
		Toggle:    func() bool { h := !healthy.Load(); healthy.Store(h); return h },
		Profiling: os.Getenv("ENABLE_PROFILING") == "true",
	}.Handler())
	if err != nil {
		return err
	}
	log.Info("starting", "management", management.Addr().String(), "startup_delay_ms", c.StartupDelay.Milliseconds())
	select {
	case <-time.After(c.StartupDelay):
	case <-ctx.Done():
		return management.Stop(context.WithoutCancel(ctx))
	}

	pod := cmp.Or(os.Getenv("POD_NAME"), os.Getenv("HOSTNAME"))
	calls := grpc.NewServer()
	reflection.Register(calls)
	healthpb.RegisterHealthServer(calls, health.NewServer())
	work := &demo.Service{Pod: pod, Draining: state.Draining}
	api.RegisterDemoServiceServer(calls, work)
	mux := http.NewServeMux()
	work.Routes(mux)
	mux.HandleFunc("POST /v1/process", jsonCall(work.ProcessRequest))
	data, err := port.Listen(ctx, c.addr(c.Port), count.Handler(both(pod, calls, mux)))
	if err != nil {
		return err
	}
	state.OnDrain(func(on bool) {
		if on {
			data.Drain()
		} else {
			data.Undrain()
		}
	})
	state.Started()
	log.Info("serving", "address", data.Addr().String(), "pod", pod)

	select {
	case err = <-data.Failed():
		return fmt.Errorf("serve requests: %w", err)
	case err = <-management.Failed():
		return fmt.Errorf("serve management: %w", err)
	case <-ctx.Done():
	}
	log.Info("stopping", "in_flight", count.Total(), "timeout_ms", c.StopTimeout.Milliseconds())
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.StopTimeout)
	defer cancel()
	err = data.Stop(deadline)
	_ = management.Stop(deadline)
	log.Info("stopped", "in_flight", count.Total(), "clean", err == nil)
	return err
}

func (c *serveCmd) addr(port int) string { return net.JoinHostPort(c.Host, strconv.Itoa(port)) }

// both sends gRPC calls to calls and everything else to web. One HTTP server below means one shutdown for all.
func both(pod string, calls, web http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Pod", pod)
		if inflight.IsGRPC(r) {
			calls.ServeHTTP(w, r)
			return
		}
		web.ServeHTTP(w, r)
	})
}
