package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/drain-agent/drain-agent/deploy/controller/internal/ledger"
)

// noStore is the value of --store without a ledger.
const noStore = "none"

// ledgerProblems says what is wrong with the flags of the ledger.
func ledgerProblems(c config) (problems []error) {
	if c.ledger.Store == noStore {
		for flag, value := range map[string]string{"--api": c.api, "--report": c.report, "--report-client-ca": c.ledger.ReportCA} {
			if value != "" {
				problems = append(problems, fmt.Errorf("%s does nothing with --store=none: name a store, or leave out %s", flag, flag))
			}
		}
		return problems
	}
	if c.ledger.ReportCA != "" && c.report == "" {
		problems = append(problems, errors.New("--report-client-ca does nothing without --report: name the URL that agents report to"))
	} else if c.ledger.ReportCA != "" {
		if err := ledger.CheckAuthority(c.ledger.ReportCA); err != nil {
			problems = append(problems, fmt.Errorf("--report-client-ca: %w", err))
		}
	}
	if err := ledger.Check(c.ledger.Store); err != nil {
		problems = append(problems, fmt.Errorf("--store: %w", err))
	}
	for _, flag := range []struct {
		name  string
		wrong bool
	}{
		{"--keep", c.ledger.Limits.Age <= 0},
		{"--keep-stops", c.ledger.Limits.Rows < 1},
		{"--workloads", c.ledger.Limits.Workloads < 1},
		{"--unknown-after", c.ledger.UnknownAfter <= 0},
	} {
		if flag.wrong {
			problems = append(problems, fmt.Errorf("%s must be more than zero", flag.name))
		}
	}
	return problems
}

// asksForCertificates has the webhooks' server ask who connects, where agents may report with certificates.
func asksForCertificates(c config) []func(*tls.Config) {
	if c.ledger.ReportCA == "" {
		return nil
	}
	return []func(*tls.Config){ledger.AskForCertificates}
}

// addLedger starts it with the manager. The webhooks do not wait for it. Where agents report to it is beside them, under reportPath.
func addLedger(m manager.Manager, kube *rest.Config, c config, log *slog.Logger) (reports http.Handler, err error) {
	if c.ledger.Store == noStore {
		return nil, nil
	}
	l, err := ledger.New(kube, c.ledger, metrics.Registry, log)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(m.Add(manager.RunnableFunc(l.Run)), addAPI(m, l, c)); err != nil || c.report == "" {
		return nil, err
	}
	return l.Reports(), nil
}

func addAPI(m manager.Manager, l *ledger.Ledger, c config) error {
	if c.api == "" {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", c.api)
	if err != nil {
		return err
	}
	ctx, over := context.WithCancel(context.Background())
	server := &http.Server{
		BaseContext: func(net.Listener) context.Context { return ctx }, // who follows the live view would hold up the end
		Handler:     l.API(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	server.RegisterOnShutdown(over)
	return m.Add(&manager.Server{Name: "api", Server: server, Listener: netutil.LimitListener(listener, 64)})
}
