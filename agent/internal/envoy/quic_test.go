package envoy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/drain-agent/drain-agent/agent/internal/envoy"
)

// selfSigned returns a certificate and its key as PEM.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, bytes []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}))
	}
	return block("CERTIFICATE", der), block("EC PRIVATE KEY", text)
}

// TestRequestsOverHTTP3: a request of HTTP/3 reads 1, statistics hidden or not; what Envoy has still to send to its client is known only
// where the gauge of requests is shown.
func TestRequestsOverHTTP3(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]obj{"shown": nil, "hidden": hidden()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app, in := startApp(t), freePort(t)
			cert, key := selfSigned(t)
			filter := httpFilter("in", obj{"cluster": "app"}, obj{"codec_type": "HTTP3", "http3_protocol_options": obj{}})
			quic := extension("quic", "extensions.transport_sockets.quic.v3.QuicDownstreamTransport", obj{"downstream_tls_context": obj{"common_tls_context": obj{
				"tls_certificates": []obj{{"certificate_chain": obj{"inline_string": cert}, "private_key": obj{"inline_string": key}}},
			}}})
			l := obj{
				"name": "in", "address": socketAddress(in, obj{"protocol": "UDP"}), "traffic_direction": "INBOUND",
				"udp_listener_config": obj{"quic_options": obj{}},
				"filter_chains":       []obj{{"filters": []obj{filter}, "transport_socket": quic}},
			}
			_, c := startWith(t, []obj{l}, []obj{cluster("app", app.port, nil)}, more)
			until(t, c, "nothing", func(s envoy.Sample) bool {
				return s.InFlight.Known && s.InFlight.N == 0 && s.Bytes.Known == (name == "shown")
			})
			client := http.Client{Transport: &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: 30 * time.Second} //nolint:gosec // its certificate is made here
			answered := make(chan error, 1)
			go func() {
				reply, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d/slow", in))
				if err == nil {
					reply.Body.Close()
				}
				answered <- err
			}()
			app.wait(t)
			busy := until(t, c, "the request", inFlight(1))
			for range 20 {
				if s := c.Sample(t.Context()); s.InFlight.Known && s.InFlight.N == 0 && s.Age == 0 {
					t.Fatalf("a request is under way: %+v", s)
				}
			}
			close(app.release)
			if err := <-answered; err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			until(t, c, "nothing any more", func(s envoy.Sample) bool { return s.InFlight.Known && s.InFlight.N == 0 })
			t.Logf("busy by %q, zero again after %v", busy.Rung, time.Since(began))
		})
	}
}
