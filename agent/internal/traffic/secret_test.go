package traffic

import (
	"compress/gzip"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/neterr"
)

const marker = "s3cr3t"

// What a preset reads is shown: nothing in it is anybody's secret.
func TestPresetsAreShown(t *testing.T) {
	for _, p := range Presets() {
		spec := p.Kind + ":http://127.0.0.1:80" + p.Path + "#" + p.Read
		want := spec
		if path, _, query := strings.Cut(p.Path, "?"); query {
			want = p.Kind + ":http://127.0.0.1:80" + path + "?***#" + p.Read
		}
		if got := source(t, spec).Spec(); got != want {
			t.Errorf("%s is shown as %s", spec, got)
		}
	}
}

// Whatever goes wrong with a source, its error does not repeat what stands in its URL.
func TestErrorsHoldNoSecret(t *testing.T) {
	for _, spec := range []string{
		"x:http://u:s3cr3t@h/#a", "prometheus:http://u:s3cr3t@h/", "prometheus:http://u:s3cr3t@h:x/#a", "prometheus:u:s3cr3t@h/#a", "prometheus:http://u:%s3cr3t@h/#a",
		"json:ftp://u:s3cr3t@h/#/a", "json:http://u:s3cr3t@h/#a", "text:http://h/?s3cr3t#(", "preset:x@http://u:s3cr3t@h/", "json:http://h/s3cr3t#a", "json:/s3cr3t#/a", "x:http://h/s3cr3t#/a", "preset:x@http://h/s3cr3t", "preset:nginx@http://h:x/s3cr3t", "preset:nginx@http://u:s3c/s3cr3t@h/",
		"https://u:s3cr3t@h=prometheus:http://h/#a", "prometheus:http://u:s3cr3t\x01@h/#a",
	} {
		if s, err := ParseSource(spec); err == nil {
			t.Errorf("%q became %s", spec, s.Spec())
		} else if strings.Contains(err.Error(), marker) {
			t.Error(err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/s3cr3t/", http.StripPrefix("/s3cr3t", mux))
	mux.Handle("/away", http.RedirectHandler("http://localhost/", http.StatusFound))
	mux.Handle("/nowhere", http.RedirectHandler("http://%zz/s3cr3t", http.StatusFound))
	mux.HandleFunc("/401", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	mux.HandleFunc("/hang", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	for _, url := range []string{"http://u:s3cr3t@" + host + "/%s?s3cr3t", "http://" + host + "/s3cr3t/%s", "http://127.0.0.1:1/s3cr3t/%s", "http://u:s3cr3t@127.0.0.1:1/%s?s3cr3t", "https://u:s3cr3t@" + host + "/%s?s3cr3t"} {
		for _, path := range []string{"away", "nowhere", "401", "hang"} {
			_, err := source(t, "json:"+fmt.Sprintf(url, path)+"#/a").Read(t.Context())
			if err == nil || strings.Contains(err.Error(), marker) {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

// A source that fails in the same way has the same text each time, though each connection has another port of ours.
func TestErrorsHoldNoPortOfOurs(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.(*net.TCPConn).SetLinger(0) // a reset
			conn.Close()
		}
	}))
	t.Cleanup(srv.Close)
	s := source(t, "json:"+srv.URL+"#/a")
	for range 3 {
		_, err := s.Read(t.Context())
		if err == nil || regexp.MustCompile(`:\d+->`).MatchString(err.Error()) {
			t.Errorf("error %v", err)
		}
	}
	err := neterr.Plain(fmt.Errorf("x: %w", &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{Port: 4242}, Addr: &net.TCPAddr{Port: 80}, Err: io.EOF}))
	if err.Error() != "read tcp :80: EOF" || !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func writeSecret(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func withAuth(t *testing.T, spec string, paths ...string) *Source {
	t.Helper()
	a, err := NewAuth(paths...)
	if err != nil {
		t.Fatal(err)
	}
	s := source(t, spec)
	if !s.SetAuth(a) {
		t.Fatalf("%s takes no credentials", spec)
	}
	return s
}

func TestCredentialsFromFiles(t *testing.T) {
	var got http.Header
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		if r.URL.Path == "/far" {
			http.Redirect(w, r, "http://"+r.Host+"/near", http.StatusFound)
			return
		}
		io.WriteString(w, "a 1\n")
	}))
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	mounted := filepath.Join(dir, "mounted")
	if err := os.Mkdir(mounted, 0o700); err != nil {
		t.Fatal(err)
	}
	writeSecret(t, filepath.Join(mounted, "username"), "me")
	writeSecret(t, filepath.Join(mounted, "password"), marker+"\n")
	for _, tt := range []struct{ path, header, want string }{
		{writeSecret(t, dir+"/token", marker+"\n"), "Authorization", "Bearer " + marker},
		{writeSecret(t, dir+"/headers", "# ours\nAuthorization: Basic abc\nX-Key: "+marker+"\n"), "X-Key", marker},
		{dir + "/headers", "Authorization", "Basic abc"},
		{mounted, "Authorization", "Basic bWU6czNjcjN0"},
	} {
		for _, at := range []string{"/near", "/far"} {
			checkRead(t, withAuth(t, "prometheus:"+srv.URL+at+"#a", tt.path), 1, "")
			if got.Get(tt.header) != tt.want {
				t.Errorf("%s: %s is %q, want %q", tt.path, tt.header, got.Get(tt.header), tt.want)
			}
		}
	}
	s := withAuth(t, "prometheus:"+srv.URL+"#a", dir+"/token")
	checkRead(t, s, 1, "")
	writeSecret(t, dir+"/token", "another-token")
	checkRead(t, s, 1, "")
	if got.Get("Authorization") != "Bearer another-token" {
		t.Errorf("a token that changed was sent as %q", got)
	}
	checkRead(t, source(t, "prometheus:http://u:p@"+strings.TrimPrefix(srv.URL, "http://")+"/far#a"), 1, "")
	if got.Get("Authorization") != "Basic dTpw" {
		t.Errorf("what stands in the URL was sent as %q", got)
	}
	if none := source(t, "none"); none.SetAuth(nil) {
		t.Error("none takes credentials")
	}
}

func TestCredentialsThatAreNone(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/empty", 0o700); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir + "/gone":                      "no such file",
		dir + "/empty":                     "holds none of",
		writeSecret(t, dir+"/blank", "\n"): "is empty",
		writeSecret(t, dir+"/prose", marker+" "+marker+"\n"):                                          "line 1 is neither",
		writeSecret(t, dir+"/pem", "-----BEGIN s3cr3t\n"):                                             "is no PEM file",
		writeSecret(t, dir+"/cert", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"): "cannot be read",
		writeSecret(t, dir+"/key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):  "do not belong together",
	} {
		a, err := NewAuth(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Check(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), marker) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
		checkRead(t, withAuth(t, "json:http://127.0.0.1:1#/a", path), 0, want)
	}
	if _, err := NewAuth("token"); err == nil {
		t.Error("a relative path is taken")
	}
}

func TestPrivateAuthority(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a 1\n") }))
	t.Cleanup(srv.Close)
	srv.Config.ErrorLog = nil
	ca := writeSecret(t, t.TempDir()+"/ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	spec := "prometheus:" + srv.URL + "#a"
	checkRead(t, source(t, spec), 0, "certificate")
	checkRead(t, withAuth(t, spec, ca), 1, "")
	other := httptest.NewUnstartedServer(nil)
	other.Close()
	if _, err := withAuth(t, strings.Replace(spec, "127.0.0.1", "localhost", 1), ca).Read(t.Context()); err != nil {
		t.Errorf("its very certificate is trusted under any name: %v", err)
	}
}

// Our headers go to no other port than the one that was named.
func TestRedirectsToAnotherPortCarryNoCredentials(t *testing.T) {
	var got http.Header
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		io.WriteString(w, "a 1\n")
	}))
	t.Cleanup(target.Close)
	srv := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusFound))
	t.Cleanup(srv.Close)
	checkRead(t, withAuth(t, "prometheus:"+srv.URL+"/?s3cr3t#a", writeSecret(t, t.TempDir()+"/h", "X-Key: s3cr3t\nAuthorization: s3cr3t\n")), 1, "")
	if strings.Contains(fmt.Sprint(got), marker) {
		t.Errorf("it got %v", got)
	}
}

func TestContentEncodings(t *testing.T) {
	encoding := "gzip"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", encoding)
		z := gzip.NewWriter(w)
		defer z.Close()
		io.WriteString(z, "a 1\n")
	}))
	t.Cleanup(srv.Close)
	checkRead(t, source(t, "prometheus:"+srv.URL+"#a"), 1, "")
	encoding = "br"
	checkRead(t, source(t, "prometheus:"+srv.URL+"#a"), 0, "Content-Encoding")
}

// A page may take as long as its reader's context allows.
func TestASlowPageIsRead(t *testing.T) {
	slow := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-slow
		io.WriteString(w, "a 1\n")
	}))
	t.Cleanup(srv.Close)
	s := source(t, "prometheus:"+srv.URL+"#a")
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if n, err := s.Read(ctx); n.Known || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read %v, %v", n, err)
	}
	close(slow)
	checkRead(t, s, 1, "")
}
