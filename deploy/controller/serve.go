package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/open-policy-agent/cert-controller/pkg/rotator"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/drain-agent/drain-agent/deploy/controller/internal/admission"
	"github.com/drain-agent/drain-agent/deploy/internal/inject"
)

// Paths of the webhooks; the chart's configurations name them.
const (
	podsPath      = "/pods"
	workloadsPath = "/workloads"
	reportPath    = "/report"
)

// serve runs until the context ends. Readiness turns true when the certificates are there and what stands beside pods has been read.
func serve(ctx context.Context, kube *rest.Config, c config, defaults inject.Options, log *slog.Logger) error {
	m, err := ctrl.NewManager(kube, ctrl.Options{
		Scheme:                 clientgoscheme.Scheme,
		Metrics:                metricsserver.Options{BindAddress: c.metrics},
		HealthProbeBindAddress: c.health,
		WebhookServer:          webhook.NewServer(webhook.Options{Host: c.host, Port: c.listen, CertDir: c.certDir, TLSOpts: asksForCertificates(c)}),
		Cache:                  cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
	})
	if err != nil {
		return err
	}
	certificates := make(chan struct{})
	if c.secret == "" {
		close(certificates)
	} else if err := rotator.AddRotator(m, rotation(c, certificates)); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	for _, kind := range []client.Object{&corev1.Namespace{}, &corev1.Service{}, &networkingv1.Ingress{}} {
		if _, err := m.GetCache().GetInformer(ctx, kind, cache.BlockUntilSynced(false)); err != nil {
			return err
		}
	}
	reports, err := addLedger(m, kube, c, log)
	if err != nil {
		return fmt.Errorf("keep verdicts: %w", err)
	}
	ready := make(chan struct{})
	if err := m.Add(manager.RunnableFunc(func(ctx context.Context) error {
		select {
		case <-certificates:
		case <-ctx.Done():
			return nil
		}
		if err := register(m, c, defaults, reports, log); err != nil {
			return err
		}
		if !m.GetCache().WaitForCacheSync(ctx) {
			return nil
		}
		log.Info("serving")
		close(ready)
		<-ctx.Done()
		return nil
	})); err != nil {
		return err
	}
	if err := m.AddHealthzCheck("alive", func(*http.Request) error { return nil }); err != nil {
		return err
	}
	if err := m.AddReadyzCheck("webhooks", func(r *http.Request) error {
		select {
		case <-ready:
			return m.GetWebhookServer().StartedChecker()(r)
		default:
			return errors.New("certificates or what stands beside pods are not there yet")
		}
	}); err != nil {
		return err
	}
	return m.Start(ctx)
}

// rotation makes an authority for ten years and certificates for ninety days, renewed when thirty are left. Both replicas do it: who
// comes second finds the Secret changed and takes what is there.
func rotation(c config, ready chan struct{}) *rotator.CertRotator {
	const day = 24 * time.Hour
	return &rotator.CertRotator{
		SecretKey: types.NamespacedName{Namespace: c.namespace, Name: c.secret}, CertDir: c.certDir, IsReady: ready,
		CAName: "drain-controller", CAOrganization: "drain-agent", DNSName: fmt.Sprintf("%s.%s.svc", c.service, c.namespace),
		CaCertDuration: 3650 * day, ServerCertDuration: 90 * day, LookaheadInterval: 30 * day,
		Webhooks: []rotator.WebhookInfo{{Name: c.webhooks, Type: rotator.Mutating}, {Name: c.webhooks, Type: rotator.Validating}},
	}
}

// register starts the webhooks; their server reads the certificates when it starts.
func register(m manager.Manager, c config, defaults inject.Options, reports http.Handler, log *slog.Logger) error {
	beside := &admission.Beside{Cached: m.GetClient(), Mesh: c.meshConfig}
	if c.configMaps {
		beside.ConfigMaps = m.GetAPIReader()
	}
	defaults.RefuseImage = !c.allowImage
	if reports != nil {
		defaults.Report = c.report
		authority, err := os.ReadFile(filepath.Join(c.certDir, "ca.crt"))
		if err != nil && c.secret != "" {
			return fmt.Errorf("read the authority that agents are to trust: %w", err)
		}
		defaults.ReportCA = string(authority)
		m.GetWebhookServer().Register(reportPath, reports)
	}
	pods := &admission.Pods{Beside: beside, Defaults: defaults, Log: log}
	if err := pods.Metrics(metrics.Registry); err != nil {
		return err
	}
	server := m.GetWebhookServer()
	server.Register(podsPath, &webhook.Admission{Handler: pods})
	server.Register(workloadsPath, &webhook.Admission{Handler: &admission.Workloads{Beside: beside, Defaults: defaults, Deny: c.deny, Log: log}})
	return nil
}
