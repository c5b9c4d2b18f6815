package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/cert-controller/pkg/rotator"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var errNotYet = errors.New("not yet")

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Pods start whatever is wrong with the webhook, and get their agent again as soon as it is back.
func TestPodsStartWithoutTheWebhook(t *testing.T) {
	s := apiServer(t)
	run := s.controller(t)
	ns := s.namespace(t, labelled, nil)
	agents := func(want bool) {
		t.Helper()
		if pod := s.create(t, ns, envoyPod); (agentOf(pod) != nil) != want {
			t.Errorf("agent: %v, want %v", !want, want)
		}
	}
	agents(true)
	t.Run("down", func(t *testing.T) {
		run.stop()
		agents(false)
	})
	t.Run("slow", func(t *testing.T) {
		silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts nobody
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		s.route(t, silent.Addr().(*net.TCPAddr).Port)
		agents(false)
	})
	t.Run("certificate that is over", func(t *testing.T) {
		s.route(t, expired(t, s))
		agents(false)
	})
	t.Run("certificate of somebody else", func(t *testing.T) {
		s.route(t, stranger(t))
		agents(false)
	})
	t.Run("back", func(t *testing.T) {
		s.controller(t)
		agents(true)
	})
}

// expired serves with a certificate of the right authority and name that ended an hour ago.
func expired(t *testing.T, s *server) int {
	t.Helper()
	var secret corev1.Secret
	if err := s.client.Get(t.Context(), client.ObjectKey{Namespace: ownNamespace, Name: "drain-controller-certificate"}, &secret); err != nil {
		t.Fatal(err)
	}
	ca, err := tls.X509KeyPair(secret.Data["ca.crt"], secret.Data["ca.key"])
	if err != nil {
		t.Fatal(err)
	}
	return serveTLS(t, certify(t, ca, time.Now().Add(-time.Hour)))
}

// stranger serves with a good certificate of another authority.
func stranger(t *testing.T) int {
	t.Helper()
	r := &rotator.CertRotator{CAName: "somebody", CAOrganization: "else"}
	made, err := r.CreateCACert(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := tls.X509KeyPair(made.CertPEM, made.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return serveTLS(t, certify(t, ca, time.Now().Add(time.Hour)))
}

// When the certificate is made anew under load, calls before, meanwhile and after are answered or the pods start without an agent;
// at the end they get it.
func TestCertificatesAreMadeAnew(t *testing.T) {
	s := apiServer(t)
	s.controller(t)
	ns := s.namespace(t, labelled, nil)
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var refused error
	made := 0
	load.Go(func() {
		for ; ctx.Err() == nil; made++ {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "load-", Namespace: ns}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "envoy", Image: "envoyproxy/envoy:v1.40.0"}, {Name: "app", Image: "a:1"}}}}
			if err := s.client.Create(context.WithoutCancel(ctx), pod); err != nil {
				refused = err
			}
		}
	})
	key := client.ObjectKey{Namespace: ownNamespace, Name: "drain-controller-certificate"}
	var secret corev1.Secret
	if err := s.client.Get(t.Context(), key, &secret); err != nil {
		t.Fatal(err)
	}
	was := string(secret.Data["ca.crt"])
	secret.Data = nil // lost: authority and all
	if err := s.client.Update(t.Context(), &secret); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is another authority", func() error {
		if err := s.client.Get(t.Context(), key, &secret); err != nil {
			return err
		}
		if now := string(secret.Data["ca.crt"]); now == "" || now == was {
			return errNotYet
		}
		return nil
	})
	eventually(t, "pods get their agent again", func() error {
		if agentOf(s.create(t, ns, envoyPod)) == nil {
			return errNotYet
		}
		return nil
	})
	stop()
	load.Wait()
	if refused != nil {
		t.Errorf("a pod was refused: %v", refused)
	}
	t.Logf("%d pods were made meanwhile", made)
}
