package ledger

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// issue makes a certificate, signed by another one or by itself.
func issue(t *testing.T, by *tls.Certificate, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	change(template)
	parent, signer := template, any(key)
	if by != nil {
		if parent, err = x509.ParseCertificate(by.Certificate[0]); err != nil {
			t.Fatal(err)
		}
		signer = by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func authority(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }

// With a certificate that names it a pod reports its own stop, without a token; no other certificate will do, and without the file none.
func TestReportsOverMutualTLS(t *testing.T) {
	ca, other := issue(t, nil, authority), issue(t, nil, authority)
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	named := func(uri string, more ...func(*x509.Certificate)) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			u, err := url.Parse(uri)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = []*url.URL{u}
			for _, f := range more {
				f(c)
			}
		}
	}
	const own = "spiffe://cluster.local/ns/shop/pod/web-a/a"
	for what, row := range map[string]struct {
		by     *tls.Certificate
		make   func(*x509.Certificate)
		file   string
		status int
		want   string
	}{
		"its own":                   {&ca, named(own), file, http.StatusOK, kept},
		"another pod's":             {&ca, named("spiffe://cluster.local/ns/shop/pod/web-z/z"), file, http.StatusNotFound, nobody},
		"of one before it":          {&ca, named("spiffe://cluster.local/ns/shop/pod/web-a/earlier"), file, http.StatusNotFound, nobody},
		"of another authority":      {&other, named(own), file, http.StatusUnauthorized, stranger},
		"of none":                   {nil, named(own), file, http.StatusUnauthorized, stranger},
		"over":                      {&ca, named(own, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), file, http.StatusUnauthorized, stranger},
		"for servers":               {&ca, named(own, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), file, http.StatusUnauthorized, stranger},
		"names an account":          {&ca, named("spiffe://cluster.local/ns/shop/sa/web"), file, http.StatusUnauthorized, stranger},
		"names nobody":              {&ca, func(*x509.Certificate) {}, file, http.StatusUnauthorized, stranger},
		"nobody said whom to trust": {&ca, named(own), "", http.StatusUnauthorized, stranger},
		"the file is gone":          {&ca, named(own), file + "x", http.StatusServiceUnavailable, failed},
	} {
		c := watching(t, open(t, "memory", bounded))
		r := c.receiver(podsOf{"web-a": stripped(running("a", deleting))})
		if row.file != "" {
			r.certified = certified(row.file)
		}
		server := httptest.NewUnstartedServer(r)
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		AskForCertificates(server.TLS)
		server.StartTLS()
		client := server.Client()
		client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{issue(t, row.by, row.make)}
		reply, err := client.Post(server.URL+"/report", "application/json", strings.NewReader(curved("clean", 1)))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		text, _ := io.ReadAll(reply.Body)
		_ = reply.Body.Close()
		if reply.StatusCode != row.status || !strings.Contains(string(text), `"`+row.want+`"`) {
			t.Errorf("%s: %d %s, want %d %s", what, reply.StatusCode, text, row.status, row.want)
		}
		if got := c.rows(); (got == "a clean") != (row.want == kept) {
			t.Errorf("%s: rows %s", what, got)
		}
		server.Close()
	}
}
