package main

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// agentThatWrites stands for an agent on a socket and on HTTP; each call appends to the file.
func agentThatWrites(t *testing.T, file string) (socket, address string) {
	t.Helper()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		_, _ = f.WriteString("agent " + r.URL.Path + "\n")              // read below
		_, _ = w.Write([]byte(`{"container":"app","outcome":"clean"}`)) // read below
	})
	socket = filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	own := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler}} //nolint:gosec // of a test
	own.Start()
	t.Cleanup(own.Close)
	other := httptest.NewServer(handler)
	t.Cleanup(other.Close)
	return socket, other.URL
}

func TestHookRunsTheHookThatTheContainerHad(t *testing.T) {
	for name, test := range map[string]struct {
		args string
		want string // what was written, "|" between lines
		code int
		says string
	}{
		"none":                  {"hook --control=SOCKET app", "agent /prestop/app|", 0, `"outcome":"clean"`},
		"after":                 {"hook --control=SOCKET --after app -- sh -c WRITE", "agent /prestop/app|own|", 0, `"outcome":"clean"`},
		"its failure":           {"hook --control=SOCKET --after app -- sh -c FAIL", "agent /prestop/app|own|", 1, "exit status 7"},
		"no such program":       {"hook --control=SOCKET app -- /no/such --after", "agent /prestop/app|", 1, "/no/such"},
		"its flags are its own": {"hook --control=SOCKET --after app -- sh -c WRITE --http=x -h", "agent /prestop/app|own|", 0, ""},
		"over HTTP":             {"hook --control=/no/socket --http=HTTP --after app -- sh -c WRITE", "agent /prestop/app|own|", 0, "200 OK"},
		"no agent":              {"hook --control=/no/socket --http= app -- sh -c WRITE", "own|", 0, "stops without a drain"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "said")
			socket, address := agentThatWrites(t, file)
			var args []string
			for word := range strings.FieldsSeq(test.args) {
				word = strings.NewReplacer("SOCKET", socket, "HTTP", address, "WRITE", "echo own >> "+file, "FAIL", "echo own >> "+file+"; exit 7").Replace(word)
				args = append(args, word)
			}
			var out bytes.Buffer
			code := command(args, &out, &out)
			said, err := os.ReadFile(file)
			if err != nil || strings.ReplaceAll(string(said), "\n", "|") != test.want {
				t.Errorf("written: %q (%v), want %q", said, err, test.want)
			}
			if code != test.code || !strings.Contains(out.String(), test.says) {
				t.Errorf("exit code %d, want %d; said %q, want %q", code, test.code, out.String(), test.says)
			}
		})
	}
}

// The agent must hear of the stop in the moment it comes, however long the container's own command takes.
func TestHookAsksTheAgentWhileTheCommandRuns(t *testing.T) {
	file := filepath.Join(t.TempDir(), "said")
	socket, _ := agentThatWrites(t, file)
	var out bytes.Buffer // the command ends only once the agent was asked
	code := command([]string{"hook", "--control=" + socket, "app", "--", "sh", "-c", "until grep -q agent " + file + "; do sleep 0.01; done"}, &out, &out)
	if code != 0 || !strings.Contains(out.String(), "clean") {
		t.Errorf("%d %s", code, out.String())
	}
}
