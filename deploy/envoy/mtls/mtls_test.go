// Package mtls_test starts the bootstrap of this folder with a real Envoy.
package mtls_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/scripts/envoy/envoytest"
)

func TestBootstrapServesPeersWithACertificateOnly(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "app") }))
	defer app.Close()
	dir, err := os.MkdirTemp("", "mtls") //nolint:usetesting // short: a socket's path holds 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	peer := certificates(t, dir)
	e := envoytest.Start(t, envoytest.Options{Bootstrap: bootstrap(t, dir, app.Listener.Addr().(*net.TCPAddr).Port), DrainStrategy: "immediate"})
	if e.AdminURL != "unix://"+filepath.Join(dir, "admin.sock") {
		t.Errorf("admin at %s", e.AdminURL)
	}
	url := "https://" + strings.Replace(e.Listeners["inbound"], "0.0.0.0", "127.0.0.1", 1)
	if code, err := get(peer, url+"/"); code != http.StatusOK || err != nil {
		t.Errorf("a peer with a certificate: %d, %v", code, err)
	}
	if code, err := get(&tls.Config{RootCAs: peer.RootCAs}, url+"/"); err == nil {
		t.Errorf("a peer without a certificate: %d", code)
	}
	for _, step := range []struct {
		do   string
		want int
	}{{"/healthcheck/fail", http.StatusServiceUnavailable}, {"/healthcheck/ok", http.StatusOK}} {
		if _, _, err := e.Admin(t.Context(), http.MethodPost, step.do); err != nil {
			t.Fatal(err)
		}
		if code, err := get(peer, url+"/envoy-health"); code != step.want || err != nil {
			t.Errorf("health after %s: %d, %v, want %d", step.do, code, err, step.want)
		}
	}
}

// bootstrap is envoy.yaml with the paths and ports of this test.
func bootstrap(t *testing.T, dir string, app int) string {
	t.Helper()
	replace := strings.NewReplacer("/run/envoy-admin", dir, "/etc/envoy-tls", dir, "/etc/envoy/", dir+"/",
		"port_value: 8000", "port_value: 0", "port_value: 8080", fmt.Sprintf("port_value: %d", app))
	text := map[string]string{}
	for _, name := range []string{"envoy.yaml", "sds-server.yaml", "sds-peers.yaml"} {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text[name] = replace.Replace(string(raw))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return text["envoy.yaml"]
}

// certificates writes a certificate for server and peer alike, signed by itself, and returns what a peer needs.
func certificates(t *testing.T, dir string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "payments"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
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
	for name, text := range map[string][]byte{
		"tls.crt": public, "ca.crt": public, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(public)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func get(config *tls.Config, url string) (int, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	reply, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	return reply.StatusCode, reply.Body.Close()
}
