package ledger

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The view outlives the time that a server gives to a request, and is seen by no more than so many. Time and network are the bubble's: how
// fast the machine is decides nothing.
func TestLiveViewGoesOn(t *testing.T) {
	l := night(t)
	synctest.Test(t, func(t *testing.T) {
		wire := make(piped)
		server := &http.Server{Handler: l.API(), ReadHeaderTimeout: time.Second, ReadTimeout: time.Second, WriteTimeout: 2 * time.Second}
		go func() { _ = server.Serve(wire) }()
		defer server.Close()
		client := &http.Client{Transport: &http.Transport{DialContext: wire.dial}}
		reply, err := client.Get("http://ledger/live")
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		lines := bufio.NewReader(reply.Body)
		for n := 0; n < 30; { // they come a second apart
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("after %d events: %v", n, err)
			}
			if strings.HasPrefix(line, `data: {"said":"2 pods`) && strings.Contains(line, `"in_flight":"3"`) && strings.Contains(line, `"phase":"no answer"`) {
				n++
			}
		}
	})
	l.live.viewers = make(chan struct{}, liveViewers)
	for range liveViewers {
		l.live.viewers <- struct{}{}
	}
	if status, _ := call(l.API(), http.MethodGet, "/live"); status != http.StatusServiceUnavailable {
		t.Errorf("one too many: %d", status)
	}
}

// piped is a network of one server in this process.
type piped chan net.Conn

func (p piped) Accept() (net.Conn, error) {
	if conn, ok := <-p; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p piped) Close() error { close(p); return nil }

func (p piped) Addr() net.Addr { return &net.TCPAddr{} }

func (p piped) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p <- server
	return client, nil
}

// Agents that never answer hide no others, and who goes away ends nobody else's look.
func TestSilentAgentsHideNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pods listed
		for i := range livePods {
			pods = append(pods, stripped(running(fmt.Sprintf("%02d", i), deleting)))
		}
		first := pods[len(pods)/2].Name
		d := &desk{
			pods: pods, now: func() time.Time { return noon }, owner: func(context.Context, *corev1.Pod) (Workload, bool) { return Workload{}, true },
			ask: func(ctx context.Context, pod *corev1.Pod) (agentStatus, error) {
				if pod.Name < first {
					<-ctx.Done() // behind a network policy
				}
				return agentStatus{Phase: "draining"}, ctx.Err()
			},
		}
		for what, gone := range map[string]bool{"who looks stays": false, "who looks is gone": true} {
			ctx, leave := context.WithCancel(t.Context())
			if gone {
				leave()
			}
			begin, answers := time.Now(), 0
			for _, row := range d.look(ctx).List {
				if row.Phase == "draining" {
					answers++
				}
			}
			if answers != len(pods)/2 {
				t.Errorf("%s: %d of %d agents that answer are shown", what, answers, len(pods)/2)
			}
			if took := time.Since(begin); took >= liveEvery {
				t.Errorf("%s: all waited %v for those that do not answer", what, took)
			}
			leave()
		}
	})
}

// What a pod's author writes decides no more of the address than the number of a port of that pod.
func TestWhereAgentsAreAsked(t *testing.T) {
	for listen, want := range map[string]string{
		":9000": "9000", "127.0.0.1:9000": "9000", "[::]:9000": "9000", ":0": "9909", ":70000": "9909", ":": "9909", ":-1": "9909", ":http": "9909", "9000": "9909",
		":80@169.254.169.254/latest/meta-data/#": "9909", ":80/x?": "9909", ":80#": "9909", ":80 ": "9909",
	} {
		pod := stripped(running("a", deleting, func(p *corev1.Pod) {
			p.Spec.Containers[1].Args = []string{"run", "--listen=" + listen}
			p.Annotations = map[string]string{portKey: "1@x"}
		}))
		if got := pod.Annotations[portKey]; got != want {
			t.Errorf("--listen=%s: port %q, want %q", listen, got, want)
		}
	}
	hit := false
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { hit = true; _, _ = w.Write([]byte("{}")) }))
	defer agent.Close()
	_, port, _ := net.SplitHostPort(agent.Listener.Addr().String())
	for _, address := range []string{"", "0.0.0.0", "::", "localhost", "u@127.0.0.1"} { // a pod without an address is not the controller itself
		pod := stripped(running("a", deleting, func(p *corev1.Pod) {
			p.Status.PodIP, p.Spec.Containers[1].Args = address, []string{"run", "--listen=:" + port}
		}))
		if _, err := askAgent(t.Context(), pod); err == nil || hit {
			t.Errorf("address %q was asked (%v)", address, err)
		}
	}
}

// An agent is asked at its own port, and believed as far as it makes sense.
func TestAgentsAreAskedHowTheyStand(t *testing.T) {
	body, status := "", http.StatusOK
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "/status?before=1" {
			t.Errorf("asked for %s", r.URL)
		}
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	defer agent.Close()
	host, port, _ := net.SplitHostPort(agent.Listener.Addr().String())
	pod := stripped(running("a", deleting, func(p *corev1.Pod) {
		p.Status.PodIP, p.Spec.Containers[1].Args = host, []string{"run", "--listen=:" + port}
	}))
	d := &desk{now: func() time.Time { return noon }, ask: askAgent, owner: func(context.Context, *corev1.Pod) (Workload, bool) { return Workload{}, true }}
	for _, row := range []struct {
		body           string
		status         int
		phase, n, left string
	}{
		{`{"phase":"draining","left_ms":9400,"proxy":{"in_flight":2,"known":true},"app":{"in_flight":5,"known":false}}`, 200, "draining", "2", "9 s"},
		{`{"phase":"stopping","left_ms":null,"proxy":{"in_flight":null,"known":true}}`, 200, "stopping", "?", "30 s"},
		{`{"phase":"` + strings.Repeat("x", 1<<17) + `"}`, 200, "no answer", "?", "30 s"},
		{`{}`, http.StatusFound, "no answer", "?", "30 s"},
	} {
		body, status = row.body, row.status
		if got := d.row(t.Context(), pod); got.Phase != row.phase || got.InFlight != row.n || got.Left != row.left {
			t.Errorf("%.80s: %+v", row.body, got)
		}
	}
	d.ask = func(context.Context, *corev1.Pod) (agentStatus, error) { return agentStatus{}, errors.New("gone") }
	if got := d.row(t.Context(), pod); got.Phase != "no answer" {
		t.Errorf("%+v", got)
	}
}
