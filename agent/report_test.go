package main

import (
	"bytes"
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
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
)

// ownCertificate is an agent's, with its key.
func ownCertificate(t *testing.T) (certificate, key []byte) {
	t.Helper()
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), NotAfter: time.Now().Add(time.Hour)}
	certificate, err = x509.CreateCertificate(rand.Reader, template, template, pair.Public(), pair)
	if err == nil {
		key, err = x509.MarshalPKCS8PrivateKey(pair)
	}
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

// The verdict that --report gets is the log's, curves and all, signed with what the folder holds, over TLS with the certificate in it. A receiver that never answers does not
// keep the agent.
func TestVerdictIsReported(t *testing.T) {
	reports, shown, over := make(chan string, 9), make(chan *x509.Certificate, 9), make(chan struct{})
	ledger := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if len(r.TLS.PeerCertificates) == 1 {
			shown <- r.TLS.PeerCertificates[0]
		}
		reports <- r.Method + " " + r.URL.Path + " " + r.Header.Get("Authorization") + " " + string(body)
		<-over
	}))
	ledger.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	ledger.StartTLS()
	defer ledger.Close()
	defer close(over)
	dir := t.TempDir()
	own, key := ownCertificate(t)
	for name, text := range map[string]string{
		"token":   "of-the-pod\n",
		"tls.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own})), "tls.key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		"ca.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ledger.Certificate().Raw})),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := startBinary(t, buildAgent(t), "--hooks=app,agent", "--stop-order=app", "--propagation=0s", "--announce-max=0s", "--quiet-max=0s", "--settle=0s", "--stop=app=100ms",
		"--report="+ledger.URL+"/report", "--report-auth-file="+dir)
	for _, hook := range []string{"app", "agent"} {
		go func() { _, _ = b.get(t.Context(), "/prestop/"+hook) }()
	}
	b.await(t, "the verdict of a drain that its pod outlives", func() bool { return strings.Contains(b.out.String(), `"msg":"verdict"`) })
	verdict := regexp.MustCompile(`(?m)^.*"msg":"verdict".*$`).FindString(b.out.String())
	if got, want := <-reports, "POST /report Bearer of-the-pod "+verdict; got != want || !strings.Contains(verdict, `"in_flight_curve":[`) {
		t.Errorf("reported\n%s\nlogged\n%s", got, verdict)
	}
	if got := <-shown; !bytes.Equal(got.Raw, own) {
		t.Errorf("the certificate %v was shown", got.Subject)
	}
	if err := b.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	b.await(t, "it ends, though nobody answers", func() bool { return ended(b.done) })
}

// answers is a receiver: what it says to one report after the other; 0: nothing, ever.
type answers struct {
	status []int
	at     []time.Duration
	begin  time.Time
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	n := len(a.at)
	a.at = append(a.at, time.Since(a.begin))
	if a.status[n] == 0 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: a.status[n], Body: http.NoBody}, nil
}

// A report that failed is tried once again, early enough for a process that ends, and no third time.
func TestReportsAreTriedOnceAgain(t *testing.T) {
	for what, row := range map[string]struct {
		says          []int
		tries         int
		within, limit time.Duration // the last try, and all of it
	}{
		"kept":               {[]int{200}, 1, 0, 0},
		"too many, then not": {[]int{503, 200}, 2, reportLimit / 2, reportLimit / 2},
		"too many":           {[]int{503, 503, 200}, 2, reportLimit / 2, reportLimit / 2},
		"nobody answers":     {[]int{0, 0, 200}, 2, reportBudget/2 + reportLimit/2, reportBudget},
	} {
		synctest.Test(t, func(t *testing.T) {
			receiver := &answers{status: row.says, begin: time.Now()}
			r := &reporter{w: &wires{c: &config{flags: &runFlags{}}, http: &http.Client{Transport: receiver}}}
			r.w.c.flags.Report = "http://ledger/report"
			r.put(timeline.Line{Verdict: &timeline.Verdict{Outcome: "clean"}})
			r.sent.Wait()
			if took := time.Since(receiver.begin); len(receiver.at) != row.tries || receiver.at[row.tries-1] > row.within || took > row.limit {
				t.Errorf("%s: tried at %v, for %v", what, receiver.at, took)
			}
		})
	}
}

func TestEndWaitsForAReportOnlyBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, begin, answer := &reporter{}, time.Now(), make(chan struct{})
		r.sent.Go(func() { <-answer })
		r.wait()
		if waited := time.Since(begin); waited != reportLimit {
			t.Errorf("waited %v", waited)
		}
		close(answer)
		synctest.Wait()
		r.wait()
		if waited := time.Since(begin); waited != reportLimit {
			t.Errorf("waited %v though nothing was on its way", waited-reportLimit)
		}
	})
}
