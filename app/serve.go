package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/drain-agent/drain-agent/app/internal/bank"
	"github.com/drain-agent/drain-agent/app/internal/inflight"
	"github.com/drain-agent/drain-agent/app/internal/lifecycle"
	"github.com/drain-agent/drain-agent/app/internal/mgmt"
	"github.com/drain-agent/drain-agent/app/internal/port"
	"github.com/drain-agent/drain-agent/app/internal/recovery"
	"github.com/drain-agent/drain-agent/app/internal/store"
	"github.com/drain-agent/drain-agent/app/internal/telemetry"
	"github.com/drain-agent/drain-agent/app/internal/worker"
	"github.com/drain-agent/drain-agent/probes"
)

type serveCmd struct {
	Host         string        `env:"APP_HOST" help:"Address to bind, empty for all."`
	Port         int           `default:"8080" help:"HTTP/1.1, HTTP/2 without TLS and gRPC."`
	MgmtPort     int           `default:"8090" help:"Metrics, probes, drain, toggles."`
	StartupDelay time.Duration `default:"0s" help:"Pretend that initialisation takes this long."`
	StopTimeout  time.Duration `default:"25s" help:"From the stop signal to the end of the process, whatever is in flight."`

	Store          string        `env:"APP_STORE" help:"sqlite:PATH or postgres://…; default: a SQLite file in the temporary folder or /dev/shm, named by the port."`
	Accounts       int           `default:"100" help:"Demo accounts acct-0000… to open, each with 1,000,000."`
	Items          int           `default:"10" help:"Demo items item-0000… to stock, each with 1,000,000."`
	BankFault      bank.Fault    `default:"none" enum:"none,fail,hang,flaky" help:"How the fake bank misbehaves at the start."`
	ReconcileEvery time.Duration `default:"5m" help:"Between two reconciliations; 0 for none at all."`
	BatchLease     time.Duration `default:"10s" help:"Another replica takes a batch over when nothing was checkpointed for so long."`
	BatchItemDelay time.Duration `default:"0s" help:"Pretend that every item of a batch takes this long."`
	OTLPEndpoint   string        `name:"otlp-endpoint" env:"APP_OTLP_ENDPOINT" help:"host:port of a collector (OTLP over gRPC); empty exports nothing."`
}

const (
	openingBalance = 1_000_000
	heartbeat      = time.Second
	batchPoll      = 250 * time.Millisecond
)

// app is a serving process.
type app struct {
	cmd     *serveCmd
	log     *slog.Logger
	pod     string
	state   *lifecycle.State
	count   *inflight.Counter
	reg     *prometheus.Registry
	metrics *recovery.Metrics
	probes  *probes.Registry
	traces  *sdk.TracerProvider
	bank    *bank.Client

	management, data *port.Server
	store            atomic.Pointer[store.Store] // nil until it could be opened
	storeError       atomic.Pointer[error]       // what it said last
	broken           atomic.Bool                 // the simulated dependency

	workers     sync.WaitGroup
	stopWorkers context.CancelFunc
}

// Run serves until ctx ends, then stops in order. The error is nil when nothing was cut off.
func (c *serveCmd) Run(ctx context.Context, began time.Time, log *slog.Logger) error {
	a, err := newApp(ctx, c, began, log)
	if err != nil {
		return err
	}
	defer a.probes.Close()
	if err := a.start(ctx); err != nil || ctx.Err() != nil {
		return errors.Join(err, a.stop(context.WithoutCancel(ctx)))
	}
	select {
	case err = <-a.data.Failed():
		err = fmt.Errorf("serve requests: %w", err)
	case err = <-a.management.Failed():
		err = fmt.Errorf("serve management: %w", err)
	case <-ctx.Done():
	}
	return errors.Join(err, a.stop(context.WithoutCancel(ctx)))
}

// newApp makes everything that does not need the store, and opens the management port.
func newApp(ctx context.Context, c *serveCmd, began time.Time, log *slog.Logger) (*app, error) {
	host, _ := os.Hostname()
	a := &app{
		cmd: c, log: log, pod: cmp.Or(os.Getenv("POD_NAME"), os.Getenv("HOSTNAME"), host),
		state: lifecycle.New(), count: &inflight.Counter{}, reg: prometheus.NewRegistry(),
	}
	a.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.metrics = recovery.New(a.reg, version(), began)
	a.bank = bank.New(a.reg)
	if err := a.bank.SetFault(c.BankFault); err != nil {
		return nil, err
	}
	attrs := append(telemetry.Cloud(os.Getenv("CLOUD_PROVIDER"), os.Getenv, os.DirFS("/")),
		attribute.String("service.name", "payment-service"), attribute.String("service.version", version()),
		attribute.String("vcs.ref.head.revision", commit()),
		attribute.String("service.instance.id", a.pod))
	var err error
	if a.traces, err = telemetry.Provider(ctx, c.OTLPEndpoint, attrs...); err != nil {
		return nil, err
	}
	if a.probes, err = probes.New(a.checks()); err != nil {
		return nil, err
	}
	mgmt.Register(a.reg, a.state, a.count, func() bool { return a.probes.Ask(context.Background(), probes.Readiness).OK })
	a.management, err = port.Listen(ctx, c.addr(c.MgmtPort), mgmt.Config{
		State: a.state, Inflight: a.count, Registry: a.reg, Probes: a.probes,
		Toggle: func() bool {
			was := a.broken.Load()
			a.broken.Store(!was)
			return was
		},
		BankFault: func(mode string) error { return a.bank.SetFault(bank.Fault(mode)) },
		Scraped:   a.metrics.Scraped,
		Profiling: os.Getenv("ENABLE_PROFILING") == "true",
	}.Handler())
	if err != nil {
		return nil, err
	}
	log.Info("starting", "management", a.management.Addr().String(), "pod", a.pod, "resource", resource.NewSchemaless(attrs...).String())
	return a, nil
}

// start opens the store and begins to serve. It returns early, without an error, when ctx ends.
func (a *app) start(ctx context.Context) error {
	delay := time.After(a.cmd.StartupDelay)
	s := a.openStore(ctx)
	select {
	case <-ctx.Done():
		s = nil
	case <-delay: // both may have come
	}
	if s == nil {
		return nil
	}
	var err error
	if a.data, err = port.Listen(ctx, a.cmd.addr(a.cmd.Port), a.handler(s)); err != nil {
		return err
	}
	a.state.OnDrain(func(on bool) {
		if on {
			a.data.Drain()
		} else {
			a.data.Undrain()
		}
	})
	if err := a.metrics.Ready(ctx, s, a.pod, a.log); err != nil {
		a.log.Warn("recovery not measured", "error", err)
	}
	a.work(ctx, s)
	a.state.Started()
	a.log.Info("serving", "address", a.data.Addr().String(), "store", s.Name())
	return nil
}

// openStore tries until it works: a database that is not there yet is no reason to restart. Nil when ctx ended.
func (a *app) openStore(ctx context.Context) *store.Store {
	for told := ""; ctx.Err() == nil; {
		s, err := store.Open(ctx, a.cmd.dsn())
		if err == nil {
			err = s.Seed(ctx, a.cmd.Accounts, openingBalance, a.cmd.Items, openingBalance)
			if err == nil {
				a.store.Store(s)
				a.storeError.Store(nil)
				return s
			}
			_ = s.Close()
		}
		a.storeError.Store(&err)
		if told != err.Error() && ctx.Err() == nil {
			told = err.Error()
			a.log.Warn("the store cannot be opened, trying on", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
	return nil
}

// work starts what runs beside the requests. Its context outlives the stop signal: the stop has an order.
func (a *app) work(ctx context.Context, s *store.Store) {
	ctx, a.stopWorkers = context.WithCancel(context.WithoutCancel(ctx))
	owner := a.pod + "/" + rand.Text()[:8] // two processes may think they are the same pod
	a.beat(ctx, s)
	a.workers.Go(func() {
		for tick := time.NewTicker(heartbeat); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
				a.beat(ctx, s)
			}
		}
	})
	batches := &worker.Batches{
		Store: s, Bank: a.bank, Inflight: a.count, Owner: owner, Draining: a.state.Draining, Log: a.log,
		Lease: a.cmd.BatchLease, Poll: batchPoll, ItemDelay: a.cmd.BatchItemDelay,
	}
	a.workers.Go(func() { batches.Run(ctx) })
	if a.cmd.ReconcileEvery > 0 {
		r := &worker.Reconciler{Store: s, Metrics: a.metrics, Owner: owner, Log: a.log, Every: a.cmd.ReconcileEvery}
		a.workers.Go(func() { r.Run(ctx) })
	}
}

// beat writes the sign of life; what it says is the store's health.
func (a *app) beat(ctx context.Context, s *store.Store) {
	err := a.metrics.Mark(ctx, s, a.pod, a.log)
	if ctx.Err() == nil {
		a.storeError.Store(&err)
	}
}

func (c *serveCmd) addr(port int) string { return net.JoinHostPort(c.Host, strconv.Itoa(port)) }

// dsn is the store asked for, or a SQLite file in the first folder we may write to. An image without a temporary folder
// still has /dev/shm.
func (c *serveCmd) dsn() string {
	if c.Store != "" {
		return c.Store
	}
	name := fmt.Sprintf("payment-service-%d", c.Port)
	for _, parent := range []string{os.TempDir(), "/dev/shm"} {
		dir := filepath.Join(parent, name)
		if os.MkdirAll(dir, 0o750) == nil && syscall.Access(dir, 2) == nil { // 2: may write
			return "sqlite:" + filepath.Join(dir, "payments.db")
		}
	}
	return "sqlite:" + filepath.Join(os.TempDir(), name, "payments.db") // opening it will say what is wrong
}

func (c *serveCmd) shared() bool { return strings.HasPrefix(c.dsn(), "postgres") }
