package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

const (
	large    = 8 << 20   // more than Envoy and the kernel keep for one connection
	fitting  = 900 << 10 // less than Envoy alone keeps: the app is done with it at once
	tasted   = 64 << 10  // what a reader takes before it stands still
	mouthful = 32 << 10  // every 25 ms: 1.3 MB/s
)

// slowReader is one client that takes its answer slowly, or stands still in the middle of it.
type slowReader struct {
	shape   shape
	hidden  bool // Envoy hides its statistics
	tls     bool // Envoy ends TLS
	passed  bool // Envoy passes TLS through
	closing bool // the client asked for Connection: close
	http2   bool // with a window of 64 KiB
	stands  bool // it takes a little and then nothing more
}

var slowReaders = map[string]slowReader{ //nolint:gochecknoglobals // a table
	"HTTP/1.1, kept alive":                         {},
	"HTTP/1.1, Connection: close, hidden, classic": {closing: true, hidden: true, shape: classic},
	"HTTP/2, small window":                         {http2: true},
	"HTTP/2, small window, hidden":                 {http2: true, hidden: true},
	"TLS":                                          {tls: true},
	"TLS passed through":                           {passed: true, closing: true},
	"stands, HTTP/1.1, kept alive":                 {stands: true},
	"stands, HTTP/1.1, Connection: close":          {stands: true, closing: true},
	"stands, HTTP/2, small window":                 {stands: true, http2: true},
	"stands, TLS":                                  {stands: true, tls: true},
}

// A client that reads slowly gets its whole answer: bytes that Envoy or the kernel has still to send hold the pod, whose network goes
// with its last process. One that stands still does not hold it to the deadline, and what it did not take is named.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	for name, r := range slowReaders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r.run(t)
		})
	}
}

func (r slowReader) run(t *testing.T) {
	// no wait for what an idle connection may still bring hides one for bytes
	s := setup{shape: r.shape, noApp: true, agent: []string{byKind, "--accept-loss=1"}, manifest: becomeFake}
	s.envoy.HideStats, s.envoy.Patience = r.hidden, "10s" // by default Envoy itself drops what a closing connection's client leaves for 1 s
	if r.tls {
		s.envoy.Cert, s.envoy.Key = certificate(t)
	}
	if r.passed {
		s.envoy.TLSPort = fakeTLS
	}
	u := start(t, s)
	if !u.Isolated() {
		t.Log("without a network namespace the kernel goes on sending after the pod's end")
	}
	size := int64(large)
	if r.stands {
		size = fitting
	}
	began, taken := r.read(u, size)
	if r.stands { // it took what it wanted
		<-taken
		u.holds("answer", 0)
	}
	<-began
	u.Delete(nil)
	u.wait()
	u.Close() // the kernel's part goes too
	v := u.verdict("clean")
	if r.stands {
		if v.Cut["bytes"] <= 0 || len(v.Cut) != 1 {
			t.Errorf("cut %v, want the bytes that the client did not take and nothing else", v.Cut)
		}
		return
	}
	if n := <-taken; n != size {
		t.Errorf("%d of %d bytes arrived", n, size)
	}
	u.wantCut(nil)
}

// read asks for an answer and takes it. Something has come when the first channel is closed; the second gets what was taken in all.
func (r slowReader) read(u *under, size int64) (began <-chan struct{}, taken <-chan int64) {
	url := fmt.Sprintf("%s/answer?bytes=%d", u.url(inbound, ""), size)
	switch {
	case r.tls:
		url = fmt.Sprintf("https://%s/answer?bytes=%d", u.addr(inbound), size)
	case r.passed:
		url = fmt.Sprintf("https://%s/?bytes=%d", u.addr(tlsPort), size)
	}
	ctx, cancel := context.WithCancel(context.Background())
	u.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		u.t.Fatal(err)
	}
	reply, err := r.client().Do(req)
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { reply.Body.Close() })
	if r.http2 != (reply.ProtoMajor == 2) {
		u.t.Errorf("the answer came by %s", reply.Proto)
	}
	first, all := make(chan struct{}), make(chan int64, 1)
	go func() { all <- r.take(reply.Body, first) }()
	return first, all
}

// take reads a mouthful at each tick.
func (r slowReader) take(body io.Reader, first chan struct{}) (n int64) {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for buf := make([]byte, mouthful); ; <-tick.C {
		got, err := io.ReadFull(body, buf)
		if n == 0 {
			close(first)
		}
		n += int64(got)
		if err != nil || r.stands && n >= tasted {
			return n
		}
	}
}

// client keeps little itself: what it has not taken stands in the pod. The kernel keeps more there for who has a larger window.
func (r slowReader) client() *http.Client {
	window := 1 << 20
	if r.stands {
		window = 64 << 10
	}
	small := func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, window) }); e != nil {
			return e
		}
		return err
	}
	transport := &http.Transport{
		DialContext: (&net.Dialer{Control: small}).DialContext, DisableKeepAlives: r.closing, Protocols: &http.Protocols{},
		HTTP2:           &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 64 << 10},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the certificate is not the question
	}
	transport.Protocols.SetHTTP1(!r.http2)
	transport.Protocols.SetHTTP2(r.http2)
	transport.Protocols.SetUnencryptedHTTP2(r.http2)
	return &http.Client{Transport: transport}
}

// certificate makes one for anybody.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"pod"}, NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}
