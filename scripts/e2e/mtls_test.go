//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// mtls is the workload of deploy/examples/mtls with a certificate, and what its peers need.
func mtls(t *testing.T) (*workload, *tls.Config) {
	t.Helper()
	w := load(t, "mtls", namespace(t, "restricted"))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "payments"}, NotAfter: time.Now().Add(3 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"payments"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	w.secret = &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: "payments-tls", Namespace: w.ns},
		Data:       map[string][]byte{"tls.crt": public, "ca.crt": public, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})},
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(public)
	return w, &tls.Config{ServerName: "payments", RootCAs: roots, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// Each client of a gateway is counted, by request or by connection, and the gateway goes when the last of them has ended.
func TestGatewayCountsEachClient(t *testing.T) {
	t.Parallel()
	service, peer := mtls(t)
	service.service.Spec.Ports = append(service.service.Spec.Ports, corev1.ServicePort{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)})
	service.replicas(1).start(t)
	w := load(t, "gateway", namespace(t, "restricted")).resolve(t, service).replicas(1).start(t)
	seen := watch(t, w.ns)
	pod := pods(t, w.ns, w.selector())[0]
	targets := w.targets(t)
	targets[0], targets[1] = "http://"+targets[0], "https://"+targets[1]
	const each = 3
	var answers []<-chan string
	for range each {
		answers = append(answers, ask(t, http.DefaultClient, targets[0], 25*time.Second))
		passing := &http.Client{Transport: &http.Transport{TLSClientConfig: peer, DisableKeepAlives: true}}
		answers = append(answers, ask(t, passing, targets[1], 25*time.Second))
	}
	kubectl(t, "-n", w.ns, "scale", "deployment/"+w.deployment.Name, "--replicas=0")
	for _, answer := range answers {
		if result := <-answer; result != "200 OK" {
			t.Errorf("a request under way ended with %s", result)
		}
	}
	v := verdictOf(t, seen.gone(t, pod.Name, 90*time.Second))
	most := slices.MaxFunc(v.InFlightCurve, func(a, b [2]int64) int { return int(a[1] - b[1]) })[1]
	t.Logf("%s, at most %d in flight: %v", v.Outcome, most, v.InFlightCurve)
	if v.Outcome != "clean" || most != 2*each {
		t.Errorf("verdict %s (%s), at most %d in flight, want %d", v.Outcome, v.Reason, most, 2*each)
	}
}
