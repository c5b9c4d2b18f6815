package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/scripts/freeport"
	"github.com/drain-agent/drain-agent/scripts/synced"
)

const marker = "s3cr3t-pw"

// What is wrong with a flag is told without the secret that the flag may hold.
func TestNoErrorRepeatsASecret(t *testing.T) {
	for _, args := range [][]string{
		{"--help"},
		{"run", "--help"},
		{"--app-source=prometheus:http://u:s3cr3t-pw@127.0.0.1:x/m#a"},
		{"--app-source=prometheus:http://u:s3cr3t-pw@127.0.0.1:80/m?k=s3cr3t-pw"},
		{"--app-source=prom:http://u:s3cr3t-pw@127.0.0.1:80/m#a"},
		{"--app-source=worker=json:http://u:s3cr3t-pw@127.0.0.1:80/m#/a"},
		{"--app-source=u:s3cr3t-pw@127.0.0.1"},
		{"--app-drain-url=ftp://u:s3cr3t-pw@127.0.0.1/"},
		{"--app-drain-url=http://u:s3cr3t-pw@:x/?s3cr3t-pw"},
		{"--envoy-admin=http://u:s3cr3t-pw@127.0.0.1:15000"},
		{"--envoy-admin=http://u:s3cr3t-pw@127.0.0.1:x"},
		{"run", "http://u:s3cr3t-pw@127.0.0.1/"},
		{"--app-sourc=http://u:s3cr3t-pw@127.0.0.1/"},
		{"probe", "http://u:s3cr3t-pw@127.0.0.1:1/?s3cr3t-pw"},
		{"probe-source", "prometheus:http://u:s3cr3t-pw@127.0.0.1:1/?s3cr3t-pw#a"},
		{"wait", "--timeout=1ms", "--envoy-admin=http://u:s3cr3t-pw@127.0.0.1:1"},
		{"--app-source=prometheus:http://127.0.0.1:x/hooks/s3cr3t-pw#a"},
		{"--app-source=prom:http://127.0.0.1/s3cr3t-pw#a"},
		{"--app-source=worker=json:http://127.0.0.1/s3cr3t-pw#/a"},
		{"--app-source=prometheus:/s3cr3t-pw#a"},
		{"--app-drain-url=/hooks/s3cr3t-pw"},
		{"--app-drain-url=s3cr3t-pw"},
		{"--app-drain-url=ftp://127.0.0.1/hooks/s3cr3t-pw"},
		{"--app-drain-url", "http://:x/s3cr3t-pw"},
		{"--envoy-admin=s3cr3t-pw"},
		{"--envoy-admin=http://127.0.0.1:x/s3cr3t-pw"},
		{"--envoy-admin=ftp://127.0.0.1/s3cr3t-pw"},
		{"--token=s3cr3t-pw"},
		{"--token", "s3cr3t-pw"},
		{"hook", "--http=http://u:s3cr3t-pw@127.0.0.1:1/s3cr3t-pw?s3cr3t-pw", "--control=/nowhere", "app", "--", "false", "s3cr3t-pw"},
		{"probe", "http://127.0.0.1:1/s3cr3t-pw"},
		{"probe", "--header=X-Key: s3cr3t-pw", "http://127.0.0.1:1/"},
		{"probe", "--header=X-Key: s3cr3t-pw\x01", "http://127.0.0.1:1/"},
		{"probe", "--header=s3cr3t-pw s3cr3t-pw", "http://127.0.0.1:1/"},
		{"probe", "tcp://u:s3cr3t-pw@127.0.0.1:1/s3cr3t-pw"},
		{"probe-source", "json:http://127.0.0.1:1/hooks/s3cr3t-pw#/a"},
		{"probe-source", "json:http://127.0.0.1:1/hooks/s3cr3t%2Dpw?s3cr3t%2Dpw#/a"},
		{"wait", "--timeout=1ms", "--envoy-admin=http://127.0.0.1:1/s3cr3t-pw"},
		{"--report=ftp://u:s3cr3t-pw@127.0.0.1/?s3cr3t%2Dpw"},
		{"--report-auth-file=s3cr3t-pw"},
		{"--app-auth-file=s3cr3t-pw"}, // the secret instead of its file
		{"--app-auth-file=app=s3cr3t-pw"},
		{"--app-auth-file=nobody=s3cr3t-pw"},
		{"probe-source", "--auth-file=s3cr3t-pw", "json:http://127.0.0.1:1/#/a"},
		{"probe-source", "preset:nginx@http://u:s3cr3t-pw@127.0.0.1:1?s3cr3t-pw"},
		{"probe-source", "json:http://u:s3cr3t%2Dpw@127.0.0.1:1/?k=s3cr3t%2dpw#/a"},
		{"probe-source", "text:http://u:%73%33cr3t-pw@127.0.0.1:1/?k=%733cr3t-pw#("},
		{"--app-drain-url=ftp://u:s3cr3t%2Dpw@127.0.0.1/?s3cr3t%2Dpw"},
		{"probe", "http://u:s3cr3t%2Dpw@127.0.0.1:1/?s3cr3t%2Dpw"},
	} {
		t.Setenv("DRAIN_AGENT_APP_SOURCE", "prometheus:http://u:s3cr3t-pw@127.0.0.1:y/m?k=s3cr3t-pw#a")
		var out bytes.Buffer
		if code := command(args, &out, &out); code == 0 != strings.Contains(strings.Join(args, " "), "--help") || out.Len() == 0 {
			t.Errorf("%v: exit code %d, %s", args, code, out.String())
		}
		if repeats(out.String()) >= 0 {
			t.Errorf("%v: %s", args, out.String())
		}
	}
}

// marked is the marker as it is, or as a URL may have it.
var marked = regexp.MustCompile(`(?i)(s|%73)(3|%33)cr3t(-|%2d)pw`)

// repeats returns where the marker stands in a text, or -1.
func repeats(text string) int {
	if at := marked.FindStringIndex(text); at != nil {
		return at[0]
	}
	return -1
}

// Whatever an agent warns of at its start shows no secret either.
func TestNoDoubtRepeatsASecret(t *testing.T) {
	args := []string{"--hooks=app,proxy,agent"}
	for range drain.MaxSources + 1 { // one more than is read
		args = append(args, "--app-source=json:http://u:s3cr3t-pw@127.0.0.1:1/?s3cr3t-pw#/a")
	}
	for i, text := range []string{"-----BEGIN s3cr3t-pw\n", "s3cr3t-pw s3cr3t-pw\n", "\n"} {
		path := filepath.Join(t.TempDir(), fmt.Sprint("auth", i))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--app-auth-file="+path)
	}
	said := strings.Join(loaded(t, args...).doubts, "\n")
	if !strings.Contains(said, "not read: one agent reads at most") || !strings.Contains(said, "is no PEM file") || repeats(said) >= 0 {
		t.Errorf("doubts:\n%s", said)
	}
}

// binary is a whole agent in a process of its own.
type binary struct {
	*exec.Cmd

	dir, addr string
	token     string // that calls carry
	out       synced.Buffer
	done      chan struct{} // closed when it has ended
}

func ended(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

func buildAgent(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "drain-agent")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

func startBinary(t *testing.T, path string, args ...string) *binary {
	t.Helper()
	ports, err := freeport.Find(1)
	if err != nil {
		t.Fatal(err)
	}
	b := &binary{addr: fmt.Sprintf("127.0.0.1:%d", ports[0]), dir: t.TempDir(), done: make(chan struct{})}
	b.Cmd = exec.Command(path, append([]string{
		"run", "--listen=" + b.addr, "--control=" + b.dir + "/c.sock", "--termination-log=" + b.dir + "/term", "--envoy-admin=",
	}, args...)...)
	b.Stdout, b.Stderr = &b.out, &b.out
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = b.Wait(); close(b.done) }()
	t.Cleanup(func() {
		_ = b.Process.Kill()
		<-b.done
	})
	b.await(t, "it answers", func() bool { text, err := b.get(t.Context(), "/livez"); return err == nil && text != "" })
	return b
}

func (b *binary) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(5 * time.Minute) // a starved machine
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within 5 minutes: %s\n%s", what, b.out.String())
		}
	}
}

func (b *binary) get(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.addr+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Drain-Agent-Token", b.token)
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", path, res.Status)
	}
	return string(text), err
}

// A drain in which everything that has a secret is used and fails, once each: nothing that the agent shows repeats it.
func TestNothingShownRepeatsASecret(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/good" && (r.Header.Get("Authorization") == "Bearer "+marker || r.Header.Get("X-Key") == marker) {
			io.WriteString(w, "in_flight 0\n")
			return
		}
		if r.URL.Path == "/hooks/"+marker {
			io.WriteString(w, "in_flight 0\n")
			return
		}
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "http://u:"+marker+"@localhost:1/"+marker+"?k="+marker, http.StatusFound)
			return
		}
		http.Error(w, "no", http.StatusUnauthorized)
	}))
	defer app.Close()
	secret := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	with := "http://u:" + marker + "@" + strings.TrimPrefix(app.URL, "http://")
	b := startBinary(t, buildAgent(t), "--hooks=app,worker,agent", "--stop-order=app+worker", "--grace-period=6s", "--margin=1s", "--stop=app=1s", "--stop=worker=1s",
		"--app-source=prometheus:"+with+"/good?k="+marker+"#in_flight",
		"--app-source=prometheus:"+with+"/good?k=another-"+marker+"#in_flight",
		"--app-source=worker=json:"+with+"/bad?k="+marker+"#/a",
		"--app-source=worker=prometheus:"+app.URL+"/hooks/"+marker+"#in_flight",
		"--app-source=worker=prometheus:"+app.URL+"/good#in_flight", "--app-auth-file=worker="+secret("keys", "X-Key: "+marker+"\n"),
		"--app-source=worker=text:http://u:s3cr3t%2Dpw@"+app.Listener.Addr().String()+"/away?k=s3cr3t%2dpw#(.*)",
		"--app-auth-file=app="+secret("bearer", marker),
		"--token-file="+secret("token", marker),
		"--report="+with+"/report?k="+marker, "--report-auth-file="+secret("reports", "X-Key: "+marker+"\nno header\n"),
		"--app-drain-url="+with+"/hooks/T0/"+marker+"?k="+marker)
	b.await(t, "it reads the good ones and warns of the bad one", func() bool {
		page, err := b.get(t.Context(), "/metrics")
		return err == nil && strings.Count(page, "drain_agent_in_flight{") == 4 && strings.Contains(b.out.String(), "401")
	})
	shown := map[string]string{}
	look := func(when string) {
		for _, path := range []string{"/status", "/metrics", "/readyz?verbose"} {
			shown[when+" "+path], _ = b.get(t.Context(), path)
		}
		for _, args := range [][]string{{"-o", "json"}, {}} {
			var out bytes.Buffer
			command(append([]string{"status", "--control=" + b.dir + "/c.sock"}, args...), &out, &out)
			shown[when+" status "+fmt.Sprint(args)] = out.String()
		}
	}
	look("serving")
	b.token = "another-" + marker
	for _, hook := range []string{"app", "worker", "agent", "stranger"} {
		go func() { _, _ = b.get(t.Context(), "/prestop/"+hook) }()
	}
	b.await(t, "the app was told in vain", func() bool { return strings.Contains(b.out.String(), "tell the app to drain") })
	look("draining")
	if err := b.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	b.await(t, "it ends", func() bool { return ended(b.done) })
	shown["log"] = b.out.String()
	term, err := os.ReadFile(b.dir + "/term")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	shown["termination message"] = string(term)
	for _, name := range []string{"draining /status", "log", "serving /metrics", "serving status []"} {
		if !strings.Contains(shown[name], "***") && name != "serving status []" || shown[name] == "" {
			t.Errorf("%s does not show where the secret was: the test sees nothing\n%s", name, shown[name])
		}
	}
	for name, text := range shown {
		if i := repeats(text); i >= 0 {
			t.Errorf("%s: …%s…", name, text[max(0, i-80):min(len(text), i+40)])
		}
	}
	if !strings.Contains(shown["log"], `"msg":"verdict"`) {
		t.Error("no verdict")
	}
}
