package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// addr is where a port of the pod is reached.
func (u *under) addr(port int) string {
	return net.JoinHostPort(u.IP().String(), strconv.Itoa(u.Port(port)))
}

func (u *under) url(port int, path string) string { return "http://" + u.addr(port) + path }

// answer is what became of a request.
type answer struct {
	status int
	close  bool // the server said that it closes the connection
	body   string
	err    error
	at     time.Time
}

// fresh sends one request on a connection of its own and does not retry.
func (u *under) fresh(ctx context.Context, path string) answer {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}
	return get(ctx, client, u.url(inbound, path))
}

func get(ctx context.Context, client *http.Client, url string) (a answer) {
	defer func() { a.at = time.Now() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return answer{err: err}
	}
	reply, err := client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(io.LimitReader(reply.Body, 1<<20))
	return answer{status: reply.StatusCode, close: reply.Close, body: string(body), err: err}
}

// background sends a request and returns where its answer will be.
func (u *under) background(path string) <-chan answer {
	done := make(chan answer, 1)
	go func() { done <- u.fresh(context.Background(), path) }()
	return done
}

// mustServe fails the test unless the answer is 200.
func (u *under) mustServe(name string, a answer) {
	u.t.Helper()
	if a.err != nil || a.status != http.StatusOK {
		u.t.Errorf("request %s: status %d, %v", name, a.status, a.err)
	}
}

// shared finds a file of the volume that all containers share.
func (u *under) shared(name string) string {
	u.t.Helper()
	var found string
	u.until("the file "+name, func() bool {
		_ = filepath.WalkDir(u.dir, func(path string, _ os.DirEntry, err error) error {
			if err == nil && filepath.Base(path) == name {
				found = path
			}
			return nil
		})
		return found != ""
	})
	return found
}

// admin asks Envoy over the Unix socket; the setup must say uds.
func (u *under) admin(path string) string {
	u.t.Helper()
	socket := u.shared(filepath.Base(adminSocket))
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	return strings.TrimSpace(get(context.Background(), client, "http://envoy"+path).body)
}

// operate runs one of the agent's verbs against the pod's control socket.
func (u *under) operate(args ...string) string {
	u.t.Helper()
	cmd := exec.Command(binaries.agent, append(args, "--control="+u.shared("control.sock"))...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		u.t.Errorf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

// call calls a hook as anybody can.
func (u *under) call(ctx context.Context, name string) answer {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}
	return get(ctx, client, u.url(agentPort, "/prestop/"+name))
}

// metrics asks the agent for its metrics.
func (u *under) metrics() string {
	return get(context.Background(), &http.Client{Timeout: 5 * time.Second}, u.url(agentPort, "/metrics")).body
}

// status asks the agent for its status.
func (u *under) status() string {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}, Timeout: 5 * time.Second}
	return get(context.Background(), client, u.url(agentPort, "/status")).body
}
