package probes

import (
	"context"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// serveGRPC returns the address of a server for the registry.
func serveGRPC(t *testing.T, r *Registry) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	r.RegisterGRPC(s)
	served := make(chan error)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

func healthClient(t *testing.T, addr string) healthpb.HealthClient {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return healthpb.NewHealthClient(conn)
}

const (
	serving    = healthpb.HealthCheckResponse_SERVING
	notServing = healthpb.HealthCheckResponse_NOT_SERVING
	noService  = healthpb.HealthCheckResponse_SERVICE_UNKNOWN
)

func TestGRPCCheckAndList(t *testing.T) {
	var synthetic toggle
	r := registry(t, Config{Synthetic: []Check{{Name: "payment", Run: synthetic.run}}})
	client := healthClient(t, serveGRPC(t, r))
	want := func(wanted map[string]healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for service, status := range wanted {
			got, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
			if err != nil || got.Status != status {
				t.Errorf("Check %q: %v, %v; want %v", service, got, err, status)
			}
		}
		list, err := client.List(t.Context(), &healthpb.HealthListRequest{})
		if err != nil || len(list.Statuses) != len(wanted) {
			t.Fatalf("List: %v, %v", list, err)
		}
		for service, status := range wanted {
			if got := list.Statuses[service].GetStatus(); got != status {
				t.Errorf("List %q: %v, want %v", service, got, status)
			}
		}
	}
	want(map[string]healthpb.HealthCheckResponse_ServingStatus{"": serving, "liveness": serving, "readiness": serving, "startup": serving, "synthetic-readiness": serving})
	r.FailReadiness("draining")
	want(map[string]healthpb.HealthCheckResponse_ServingStatus{"": notServing, "liveness": serving, "readiness": notServing, "startup": serving, "synthetic-readiness": serving})
	r.RestoreReadiness()
	synthetic.fail("declined")
	want(map[string]healthpb.HealthCheckResponse_ServingStatus{"": serving, "liveness": serving, "readiness": serving, "startup": serving, "synthetic-readiness": notServing})

	for _, service := range []string{"nobody", "Readiness", "grpc.health.v1.Health"} {
		if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service}); status.Code(err) != codes.NotFound {
			t.Errorf("Check %q: %v, want NOT_FOUND", service, err)
		}
	}
}

func TestGRPCWatchStreamsChanges(t *testing.T) {
	r := registry(t, Config{})
	client := healthClient(t, serveGRPC(t, r))
	stream, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{Service: "readiness"})
	if err != nil {
		t.Fatal(err)
	}
	want := func(status healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		if got, err := stream.Recv(); err != nil || got.Status != status {
			t.Fatalf("got %v, %v; want %v", got, err, status)
		}
	}
	want(serving)
	r.FailReadiness("draining")
	want(notServing)
	r.FailReadiness("still draining") // the same answer is not sent again
	r.RestoreReadiness()
	want(serving)
	r.Close()
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("after Close: %v, want UNAVAILABLE", err)
	}
}

func TestGRPCWatchOfAnUnknownServiceStaysOpen(t *testing.T) {
	client := healthClient(t, serveGRPC(t, registry(t, Config{})))
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client.Watch(ctx, &healthpb.HealthCheckRequest{Service: "nobody"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := stream.Recv(); err != nil || got.Status != noService {
		t.Fatalf("got %v, %v; want SERVICE_UNKNOWN", got, err)
	}
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want CANCELLED: the stream must have been open until then", err)
	}
}

func TestGRPCWatchesAreLimited(t *testing.T) {
	client := healthClient(t, serveGRPC(t, registry(t, Config{})))
	watch := func() error {
		stream, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	for i := range maxWatches {
		if err := watch(); err != nil {
			t.Fatalf("watch %d: %v", i+1, err)
		}
	}
	if err := watch(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("watch %d: %v, want RESOURCE_EXHAUSTED", maxWatches+1, err)
	}
}

// fakeStream takes what Watch sends.
type fakeStream struct {
	grpc.ServerStream
	ctx  context.Context
	sent []healthpb.HealthCheckResponse_ServingStatus
}

func (s *fakeStream) Context() context.Context { return s.ctx }

func (s *fakeStream) Send(r *healthpb.HealthCheckResponse) error {
	s.sent = append(s.sent, r.Status)
	return nil
}

func (s *fakeStream) want(t *testing.T, want ...healthpb.HealthCheckResponse_ServingStatus) {
	t.Helper()
	if !slices.Equal(s.sent, want) {
		t.Errorf("sent %v, want %v", s.sent, want)
	}
}

// watching runs Watch of readiness in the current bubble until the test ends.
func watching(t *testing.T, r *Registry) *fakeStream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream := &fakeStream{ctx: ctx}
	done := make(chan error)
	go func() { done <- health{registry: r}.Watch(&healthpb.HealthCheckRequest{Service: "readiness"}, stream) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; status.Code(err) != codes.Canceled {
			t.Errorf("Watch ended with %v", err)
		}
	})
	synctest.Wait()
	return stream
}

func TestGRPCWatchSeesAnOnDemandCheckWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c toggle
		stream := watching(t, registry(t, Config{Readiness: []Check{{Name: "a", Run: c.run}}}))
		c.fail("x")
		time.Sleep(watchPeriod)
		synctest.Wait()
		c.pass()
		time.Sleep(watchPeriod)
		synctest.Wait()
		stream.want(t, serving, notServing, serving)
	})
}

func TestGRPCWatchSeesABackgroundCheckAndTheOwnerAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c toggle
		r := registry(t, Config{Readiness: []Check{{Name: "b", Every: 10*time.Second + watchPeriod/2, Run: c.run}}})
		synctest.Wait() // the first run
		stream := watching(t, r)
		c.fail("y")
		time.Sleep(10*time.Second + watchPeriod/2)
		synctest.Wait()
		stream.want(t, serving, notServing)
		c.pass()
		time.Sleep(10*time.Second + watchPeriod/2)
		synctest.Wait()
		stream.want(t, serving, notServing, serving)
		r.FailReadiness("draining")
		synctest.Wait()
		stream.want(t, serving, notServing, serving, notServing)
	})
}

func TestGRPCAnEndedWatchMakesRoom(t *testing.T) {
	r := registry(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 2 * maxWatches {
		err := health{registry: r}.Watch(&healthpb.HealthCheckRequest{}, &fakeStream{ctx: ctx})
		if status.Code(err) != codes.Canceled {
			t.Fatalf("watch %d: %v", i+1, err)
		}
	}
}
