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
	"errors"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drain-agent/drain-agent/scripts/load/openloop"
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
	log := follow(t, w.ns, pod.Name, "drain-agent") // the termination message has no curve
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
	seen.gone(t, pod.Name, 90*time.Second)
	<-log.done
	all := log.verdicts()
	if len(all) != 1 || len(all[0].InFlightCurve) == 0 {
		t.Fatalf("want one verdict with a curve: %+v", all)
	}
	v := all[0]
	most := slices.MaxFunc(v.InFlightCurve, func(a, b [2]int64) int { return int(a[1] - b[1]) })[1]
	t.Logf("%s, at most %d in flight: %v", v.Outcome, most, v.InFlightCurve)
	if v.Outcome != "clean" || most != 2*each {
		t.Errorf("verdict %s (%s), at most %d in flight, want %d", v.Outcome, v.Reason, most, 2*each)
	}
}

// For teams without a mesh: the payment service behind an Envoy that lets in only peers with a certificate. A rollout loses nothing,
// and whoever has none, or somebody else's, is refused before and after it.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	w, peer := mtls(t)
	_, stranger := mtls(t)
	w.start(t)
	target := w.target(t)
	refused := func(when string) {
		for name, certificates := range map[string][]tls.Certificate{"no certificate": nil, "a stranger's": stranger.Certificates} {
			transport := &http.Transport{TLSClientConfig: &tls.Config{ServerName: peer.ServerName, RootCAs: peer.RootCAs, Certificates: certificates}}
			response, err := (&http.Client{Transport: transport}).Get("https://" + target + "/work?ms=1")
			if err == nil {
				response.Body.Close()
				t.Errorf("%s: a client with %s was answered with %s", when, name, response.Status)
			} else if !strings.Contains(err.Error(), "tls:") && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: a client with %s: %v, want it refused by TLS", when, name, err) // its alert comes late where the request is written before it
			}
		}
	}
	refused("before")
	lostNothing(t, roll(t, w, 1, func(p *openloop.Plan) {
		p.TLS = peer
		p.Rate, p.Slow = 50, 50
	}))
	refused("after")
}
