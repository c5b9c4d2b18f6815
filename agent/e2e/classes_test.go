package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/app/api"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

const (
	byKind  = "--app-source=prometheus:http://127.0.0.1:8090/metrics#active_work"
	tellApp = "--app-drain-url=http://127.0.0.1:8090/drain"
)

// becomeFake makes the app the fake that does not care.
func becomeFake(p *corev1.Pod) {
	for i := range p.Spec.Containers {
		if c := &p.Spec.Containers[i]; c.Name == "app" {
			c.Image, c.Args = "fake", nil
			c.Env = []corev1.EnvVar{{Name: "FAKE_APP", Value: "1"}}
		}
	}
}

func onBothReleases(t *testing.T, test func(t *testing.T, version string)) {
	t.Helper()
	for _, version := range []string{newest, "1.36.2"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			test(t, version)
		})
	}
}

// holds waits until the app says so in its metrics.
func (u *under) holds(kind string, n int) {
	u.t.Helper()
	client := &http.Client{Timeout: time.Second}
	want := fmt.Sprintf("active_work{kind=%q} %d\n", kind, n)
	u.until(want, func() bool {
		return strings.Contains(get(context.Background(), client, u.url(8090, "/metrics")).body, want)
	})
}

func (u *under) wantCut(want map[string]int64) {
	u.t.Helper()
	events, verdicts := u.lines()
	got := verdicts[len(verdicts)-1].Cut
	for _, e := range events {
		if strings.Contains(e.Reason, "envoy is read in part") { // this machine was too slow to tell Envoy's classes
			u.t.Log(e.Reason)
			got, want = totals(got), totals(want)
		}
	}
	if !maps.Equal(got, want) {
		u.t.Errorf("cut %v, want %v", got, want)
	}
}

// totals adds up the classes of each side.
func totals(cut map[string]int64) map[string]int64 {
	sums := map[string]int64{}
	for name, n := range cut {
		side, _, _ := strings.Cut(name, " ")
		sums[side] += n
	}
	return sums
}

// webSocket opens one; how the server closed it comes on the channel.
func (u *under) webSocket() <-chan websocket.StatusCode {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	conn, _, err := websocket.Dial(ctx, u.url(inbound, "/ws"), nil)
	if err != nil {
		u.t.Fatal(err)
	}
	closed := make(chan websocket.StatusCode, 1)
	go func() {
		defer cancel()
		_, _, err := conn.Read(ctx)
		closed <- websocket.CloseStatus(err)
	}()
	return closed
}

// A WebSocket never ends by itself: the app closes it with 1001 when it is told, and nothing is waited for in vain.
func TestWebSocketIsToldToGo(t *testing.T) {
	t.Parallel()
	onBothReleases(t, func(t *testing.T, version string) {
		u := start(t, setup{version: version, noApp: true, agent: []string{byKind, tellApp}})
		closed := u.webSocket()
		u.holds("websocket", 1)
		u.stop()
		if code := <-closed; code != websocket.StatusGoingAway {
			t.Errorf("closed with %d, want 1001", code)
		}
		u.verdict("clean")
		u.noCap()
		u.wantCut(nil)
		if held := u.held("app"); held > 8*time.Second {
			t.Errorf("the app was held for %v", held)
		}
	})
}

// Nobody tells the app: the deadline comes. What it then ends itself, on SIGTERM, was not cut, where it lived on for a reading.
func TestWebSocketThatEndsWithSIGTERM(t *testing.T) {
	t.Parallel()
	u := start(t, setup{grace: 14, noApp: true, agent: []string{byKind}, manifest: func(p *corev1.Pod) {
		becomeFake(p)
		for i := range p.Spec.Containers {
			if c := &p.Spec.Containers[i]; c.Name == "app" {
				c.Env[0].Value = "polite"
			}
		}
	}})
	closed := u.webSocket()
	u.holds("websocket", 1)
	u.Delete(nil)
	u.until("the class of both sides in the status", func() bool { return strings.Count(u.status(), `"classes":{"websocket":1}`) == 2 })
	for _, side := range []string{"proxy", "app"} {
		if want := regexp.MustCompile(`drain_agent_in_flight_class\{class="websocket",rung="[^"]+",side="` + side + `"\} 1\n`); !want.MatchString(u.metrics()) {
			t.Errorf("the metrics do not say %s", want)
		}
	}
	if code := <-closed; code != websocket.StatusGoingAway {
		t.Errorf("closed with %d, want 1001", code)
	}
	none := regexp.MustCompile(`drain_agent_in_flight\{rung="[^"]+",side="(?:app|proxy)"\} 0\n`)
	u.until("both sides read nothing any more", func() bool { return len(none.FindAllString(u.metrics(), -1)) == 2 })
	if _, err := http.Post(u.url(8090, "/end"), "", http.NoBody); err == nil {
		t.Error("the app answered instead of ending")
	}
	u.wait()
	u.verdict("deadline")
	u.wantCut(nil)
}

// The app is told and does not care: the verdict names what was cut, on both sides.
func TestWebSocketAndStreamThatNobodyEnds(t *testing.T) {
	t.Parallel()
	onBothReleases(t, func(t *testing.T, version string) {
		u := start(t, setup{version: version, grace: 14, noApp: true, agent: []string{byKind, tellApp}, manifest: becomeFake})
		closed, ended := u.webSocket(), u.grpcStream()
		u.holds("websocket", 1)
		u.holds("grpc_stream", 1)
		u.stop()
		<-closed
		if err := <-ended; errors.Is(err, io.EOF) {
			t.Error("the stream ended well")
		}
		u.verdict("deadline")
		u.wantCut(map[string]int64{"proxy websocket": 1, "proxy requests": 1, "app websocket": 1, "app grpc_stream": 1})
	})
}

// grpcStream opens a stream of a server that sends nothing; its end comes on the channel, io.EOF when it ended well.
func (u *under) grpcStream() <-chan error {
	u.t.Helper()
	conn, err := grpc.NewClient(u.addr(inbound), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		u.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/fake.Service/Stream")
	if err == nil {
		err = s.CloseSend()
	}
	if err != nil {
		u.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		defer conn.Close()
		ended <- s.RecvMsg(new(corev1.Pod)) // nothing ever comes to decode
	}()
	return ended
}

// subscription opens a stream that its server ends only when it is told to drain; its end comes on the channel, io.EOF when it ended well.
func (u *under) subscription() <-chan error {
	u.t.Helper()
	conn, err := grpc.NewClient(u.addr(inbound), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		u.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	s, err := api.NewDemoServiceClient(conn).StreamResponses(ctx, &api.StreamResponsesRequest{IntervalMs: 100})
	if err != nil {
		u.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		defer conn.Close()
		for err == nil {
			_, err = s.Recv()
		}
		ended <- err
	}()
	return ended
}

// A stream that the app ends when it is told.
func TestServerStreamIsToldToEnd(t *testing.T) {
	t.Parallel()
	onBothReleases(t, func(t *testing.T, version string) {
		u := start(t, setup{version: version, noApp: true, agent: []string{byKind, tellApp}})
		ended := u.subscription()
		u.holds("grpc_stream", 1)
		u.stop()
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("the stream ended with %v", err)
		}
		u.verdict("clean")
		u.noCap()
		u.wantCut(nil)
	})
}

// A hundred streams of one HTTP/2 connection: all of them are waited for, and none is lost.
func TestHundredStreams(t *testing.T) {
	t.Parallel()
	onBothReleases(t, func(t *testing.T, version string) {
		u := start(t, setup{version: version})
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		var dials atomic.Int64
		client := &http.Client{Transport: &http.Transport{Protocols: &protocols, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}}}
		u.mustServe("first", get(context.Background(), client, u.url(inbound, "/work?ms=1"))) // the others find its connection
		answers := make(chan answer, 100)
		for range 100 {
			go func() { answers <- get(context.Background(), client, u.url(inbound, "/work?ms=5000")) }()
		}
		u.busy(100)
		u.stop()
		var last time.Time
		for range 100 {
			a := <-answers
			u.mustServe("of a hundred", a)
			if a.at.After(last) {
				last = a.at
			}
		}
		if n := dials.Load(); n != 1 {
			t.Errorf("%d connections, want one", n)
		}
		v := u.verdict("clean")
		u.noCap()
		u.wantCut(nil)
		most := int64(0)
		for _, point := range v.InFlightCurve {
			most = max(most, point[1])
		}
		if most != 100 {
			t.Errorf("at most %d in flight were seen, want 100", most)
		}
		if answered, _ := u.when("app", pod.HookAnswered); answered.Before(last) {
			t.Error("the app was let go before the last answer")
		}
	})
}

// connections opens one raw TCP connection and one of TLS that Envoy passes through, both in use.
func (u *under) connections() (closeAll func()) {
	u.t.Helper()
	raw, err := net.Dial("tcp", u.addr(tcpPort))
	if err != nil {
		u.t.Fatal(err)
	}
	var echo [5]byte
	if _, err = io.WriteString(raw, "hello"); err == nil {
		_, err = io.ReadFull(raw, echo[:])
	}
	if err != nil || string(echo[:]) != "hello" {
		u.t.Fatalf("%q, %v", echo, err)
	}
	secret, err := tls.Dial("tcp", u.addr(tlsPort), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the certificate is not the question
	if err != nil {
		u.t.Fatal(err)
	}
	fmt.Fprint(secret, "GET / HTTP/1.1\r\nHost: app\r\n\r\n")
	reply, err := http.ReadResponse(bufio.NewReader(secret), nil)
	if err != nil {
		u.t.Fatal(err)
	}
	reply.Body.Close()
	return func() {
		raw.Close()
		secret.Close()
	}
}

func tcpAndTLS(version string, grace int64) setup {
	s := setup{version: version, grace: grace, noApp: true, manifest: becomeFake}
	s.envoy.TCP, s.envoy.TCPPort, s.envoy.TLSPort = true, fakeTCP, fakeTLS
	return s
}

// Raw TCP and TLS that Envoy cannot look into hold the app until they end.
func TestTCPAndTLSAreWaitedFor(t *testing.T) {
	t.Parallel()
	onBothReleases(t, func(t *testing.T, version string) {
		u := start(t, tcpAndTLS(version, 30))
		closeAll := u.connections()
		u.Delete(nil)
		u.phase("draining", 1)
		u.pause(4 * time.Second)
		if u.happened("app", pod.HookAnswered) != 0 {
			t.Error("the app was let go while its connections were open")
		}
		closeAll()
		u.wait()
		u.verdict("clean")
		u.noCap()
		u.wantCut(nil)
	})
}

// The ones that do not end are named.
func TestTCPAndTLSThatAreCut(t *testing.T) {
	t.Parallel()
	onBothReleases(t, func(t *testing.T, version string) {
		u := start(t, tcpAndTLS(version, 14))
		closeAll := u.connections()
		defer closeAll()
		u.stop()
		u.verdict("deadline")
		u.wantCut(map[string]int64{"proxy tcp": 1, "proxy tls": 1})
	})
}
