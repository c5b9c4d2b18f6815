package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/drain-agent/drain-agent/scripts/cached"
	"github.com/drain-agent/drain-agent/scripts/synced"
)

const certManager = "test-cert-manager" // the namespace

// With certificates.provider: cert-manager, a real cert-manager makes, injects and renews them. No pod is refused or goes without an agent
// meanwhile, also where kubelet shows the new certificate late, and when the authority is renewed as well; whether cert-manager adds a new
// authority to those that the API server trusts, or puts it in their place as it did before 1.19.
func TestCertificatesOfCertManager(t *testing.T) {
	s := emptyServer(t)
	_, chart := archives(t)
	for _, merging := range []string{"true", "false"} {
		t.Run("CAInjectorMerging="+merging, func(t *testing.T) { s.certificatesOfCertManager(t, chart, merging) })
	}
}

func (s *server) certificatesOfCertManager(t *testing.T, chart, merging string) {
	s.certManager(t, merging)
	objects := s.objects(t)
	helm := s.helm(t, "helm3", ownNamespace)
	helm("install", "drain-controller", chart, "--set=replicas=1,certificates.provider=cert-manager")
	s.renewed(t, "drain-controller", "drain-controller-certificate", nil)
	run := s.controller(t, "--certificate-secret=")
	load := s.load(t, s.namespace(t, labelled, nil))
	eventually(t, "pods get their agent", load.agents)
	load.without.Store(0)
	for _, authority := range []bool{false, true} {
		run.late.Store(true)
		if authority {
			s.renew(t, "drain-controller-authority", "drain-controller-authority")
		}
		s.renew(t, "drain-controller", "drain-controller-certificate")
		load.more(t)
		run.late.Store(false)
		eventually(t, "the new certificate is served", func() error { return s.served(t, run.port) })
		load.more(t)
	}
	load.stop(t)
	if without := load.without.Load(); without > 0 {
		t.Errorf("%d of them got no agent", without)
	}
	helm("uninstall", "drain-controller")
	run.stop()
	var left []string
	eventually(t, "only what cert-manager keeps is left", func() error {
		left = slices.DeleteFunc(s.objects(t), func(one string) bool { // nobody collects the garbage here, such as requests of certificates
			return slices.Contains(objects, one) || strings.HasPrefix(one, "CertificateRequest ")
		})
		if slices.Sort(left); !slices.Equal(left, []string{"Secret drain-system/drain-controller-authority", "Secret drain-system/drain-controller-certificate"}) {
			return fmt.Errorf("%q", left)
		}
		return nil
	})
	s.kubectl(t, "-n", ownNamespace, "delete", "secret", "drain-controller-authority", "drain-controller-certificate")
}

// certManager installs it by its own chart, its webhook too, and runs its programs, until the test ends.
func (s *server) certManager(t *testing.T, merging string) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	built, _ := filepath.Glob(filepath.Join(cache, "drain-agent", "cert-manager-*", "cert-manager")) // the pattern is ours
	if len(built) == 0 {
		t.Skip("no cert-manager here: make cert-manager builds it")
	}
	module, err := cached.GoModule(t.Context(), "github.com/cert-manager/cert-manager", "v1.21.2")
	if err != nil {
		t.Skipf("needs cert-manager's module, for its chart, in Go's cache or from its proxy: %v", err)
	}
	port := strconv.Itoa(freePort(t))
	helm := s.helm(t, "helm3", certManager)
	helm("install", "cert-manager", filepath.Join(module, "deploy/charts/cert-manager"), "--create-namespace",
		"--set=crds.enabled=true,crds.keep=false,startupapicheck.enabled=false,webhook.url.host=localhost:"+port)
	s.beside(t, built[len(built)-1], "controllers", "--feature-gates=CAInjectorMerging="+merging)
	s.beside(t, built[len(built)-1], "webhook", "--secure-port="+port, "--healthz-port=0", "--metrics-listen-address=0", "--dynamic-serving-dns-names=localhost",
		"--dynamic-serving-ca-secret-namespace="+certManager, "--dynamic-serving-ca-secret-name=cert-manager-webhook-ca")
	t.Cleanup(func() { helm("uninstall", "cert-manager", "--wait") }) // while they run
	issuer := unstructuredOf("Issuer", "test-issuer")
	issuer.Object["spec"] = map[string]any{"selfSigned": map[string]any{}}
	eventually(t, "cert-manager's webhook answers", func() error { return s.client.Create(t.Context(), issuer.DeepCopy(), client.DryRunAll) })
}

// beside runs a program as the API server's administrator.
func (s *server) beside(t *testing.T, program string, arguments ...string) {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, s.admin, 0o600); err != nil {
		t.Fatal(err)
	}
	var log synced.Buffer
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, arguments...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), "KUBECONFIG="+kubeconfig), &log, &log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // ended as it was told
		if t.Failed() {
			t.Logf("cert-manager %q:\n%s", arguments, &log)
		}
	})
}

func unstructuredOf(kind, name string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{}}
	o.SetAPIVersion("cert-manager.io/v1")
	o.SetKind(kind)
	o.SetNamespace(ownNamespace)
	o.SetName(name)
	return o
}

// renew asks for another certificate now, as cmctl renew does, and returns when it is there and the API server has its authority.
func (s *server) renew(t *testing.T, certificate, secret string) {
	t.Helper()
	was := s.secret(t, secret)
	eventually(t, certificate+" is to be renewed", func() error {
		o := unstructuredOf("Certificate", certificate)
		if err := s.client.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		conditions, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
		if err != nil {
			return err
		}
		conditions = append(conditions, map[string]any{"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "renewed by a test", "lastTransitionTime": metav1.Now().UTC().Format(time.RFC3339)})
		if err := unstructured.SetNestedSlice(o.Object, conditions, "status", "conditions"); err != nil {
			return err
		}
		return s.client.Status().Update(t.Context(), o)
	})
	s.renewed(t, certificate, secret, was)
}

func (s *server) renewed(t *testing.T, certificate, secret string, was map[string][]byte) {
	t.Helper()
	eventually(t, certificate+" has another certificate", func() error {
		if now := s.secret(t, secret)["tls.crt"]; len(now) == 0 || bytes.Equal(now, was["tls.crt"]) {
			return errNotYet
		}
		return nil
	})
	eventually(t, "its authority is injected", func() error {
		var hooks admissionregistrationv1.MutatingWebhookConfiguration
		if err := s.client.Get(t.Context(), client.ObjectKey{Name: "drain-controller"}, &hooks); err != nil {
			return err
		}
		for _, hook := range hooks.Webhooks {
			if !bytes.Contains(hook.ClientConfig.CABundle, bytes.TrimSpace(s.secret(t, "drain-controller-certificate")["ca.crt"])) {
				return errNotYet
			}
		}
		return s.trusted(t)
	})
}

func (s *server) secret(t *testing.T, name string) map[string][]byte {
	t.Helper()
	var secret corev1.Secret
	if err := s.client.Get(t.Context(), client.ObjectKey{Namespace: ownNamespace, Name: name}, &secret); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return secret.Data
}

// served says whether the controller shows the certificate of the Secret.
func (s *server) served(t *testing.T, port int) error {
	t.Helper()
	block, _ := pem.Decode(s.secret(t, "drain-controller-certificate")["tls.crt"])
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // which one it is is asked below
	conn, err := dialer.DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	defer conn.Close()
	if shown := conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw; block == nil || !bytes.Equal(shown, block.Bytes) {
		return errors.New("it shows another")
	}
	return nil
}

// more waits until pods were made that the API server asked about after what came before.
func (l *load) more(t *testing.T) {
	t.Helper()
	was := l.made.Load()
	eventually(t, "more pods are made", func() error {
		if l.made.Load() < was+50 {
			return errNotYet
		}
		return nil
	})
}
