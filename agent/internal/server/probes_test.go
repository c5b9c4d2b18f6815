package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/drain-agent/drain-agent/probes"
)

func testProbes(t *testing.T) *probes.Registry {
	t.Helper()
	registry, err := probes.New(probes.Config{Startup: []probes.Check{{
		Name: "proxy", Policy: probes.Degraded, Run: func(context.Context) error { return errors.New("refused") },
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(registry.Close)
	return registry
}

func healthClient(t *testing.T, s *Server) healthpb.HealthClient {
	t.Helper()
	conn, err := grpc.NewClient(s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return healthpb.NewHealthClient(conn)
}

func TestProbesOnTheHookPort(t *testing.T) {
	registry := testProbes(t)
	s, url := start(t, newFakeAgent().agent(), Options{Probes: registry, Metrics: testMetrics().Handler()})
	want := func(path string, code int, part string) {
		t.Helper()
		if c, _, body := request(t, http.MethodGet, url+path, nil); c != code || !strings.Contains(body, part) {
			t.Errorf("GET %s: %d %q, want %d %q", path, c, body, code, part)
		}
	}
	client := healthClient(t, s)
	wantGRPC := func(service string, status healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		got, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || got.Status != status {
			t.Errorf("Check %q: %v, %v; want %v", service, got, err, status)
		}
	}
	want("/startupz", 200, "ok")
	want("/startupz/proxy", 503, "refused")
	want("/livez", 200, "ok")
	want("/readyz?verbose", 200, "[+]owner ok")
	want("/metrics", 200, "drain_agent_build_info")
	want("/status", 200, "serving")
	want("/", 404, "")
	want("/drain", 404, "")
	wantGRPC("", healthpb.HealthCheckResponse_SERVING)
	registry.FailReadiness("draining")
	want("/readyz", 503, "draining")
	want("/livez", 200, "ok")
	wantGRPC("readiness", healthpb.HealthCheckResponse_NOT_SERVING)
	wantGRPC("liveness", healthpb.HealthCheckResponse_SERVING)
	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "nobody"}); status.Code(err) != codes.NotFound {
		t.Errorf("got %v, want NOT_FOUND", err)
	}
}

func TestShutdownEndsWatches(t *testing.T) {
	s, _ := start(t, newFakeAgent().agent(), Options{Probes: testProbes(t)})
	stream, err := healthClient(t, s).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if got, err := stream.Recv(); err == nil {
		t.Errorf("the stream goes on: %v", got)
	}
}

func TestHTTP2IsForGRPCOnly(t *testing.T) {
	f := newFakeAgent()
	_, url := start(t, f.agent(), Options{Probes: testProbes(t)})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()
	res, err := client.Get(url + "/prestop/app")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusHTTPVersionNotSupported || len(f.calls()) > 0 {
		t.Errorf("%s, calls %v; want 505 and none", res.Status, f.calls())
	}
}
