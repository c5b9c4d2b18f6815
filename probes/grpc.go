package probes

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// Limits of Watch: the pause between two looks at checks without Every, and the streams that may be open at a time.
const (
	watchPeriod = time.Second
	maxWatches  = 64
)

// RegisterGRPC adds the service grpc.health.v1.Health. Its service names are the questions, "liveness", "readiness", "startup" and
// "synthetic-readiness", and "", which is readiness. Check answers NOT_FOUND for any other name. Watch streams each change,
// at once what the owner or a background check changes and within a second what another check does; it answers
// SERVICE_UNKNOWN for any other name, RESOURCE_EXHAUSTED beyond 64 streams, and ends with [Registry.Close].
func (r *Registry) RegisterGRPC(s grpc.ServiceRegistrar) {
	healthpb.RegisterHealthServer(s, health{registry: r})
}

type health struct {
	healthpb.UnimplementedHealthServer
	registry *Registry
}

// Check answers once.
func (h health) Check(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	question, ok := questionOf(req.GetService())
	if !ok {
		return nil, status.Errorf(codes.NotFound, "unknown service %q", req.GetService())
	}
	return h.ask(ctx, question), nil
}

// List answers all names at once.
func (h health) List(ctx context.Context, _ *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	statuses := map[string]*healthpb.HealthCheckResponse{}
	for _, question := range Questions() {
		statuses[string(question)] = h.ask(ctx, question)
	}
	statuses[""] = statuses[string(Readiness)]
	return &healthpb.HealthListResponse{Statuses: statuses}, nil
}

// Watch answers now and at every change.
func (h health) Watch(req *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	if !h.registry.openWatch() {
		return status.Errorf(codes.ResourceExhausted, "%d watches are open", maxWatches)
	}
	defer h.registry.closeWatch()
	question, known := questionOf(req.GetService())
	sent := healthpb.HealthCheckResponse_UNKNOWN
	for {
		changed := h.registry.changes() // before asking, so that no change between the two is missed
		now := &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVICE_UNKNOWN}
		if known {
			now = h.ask(stream.Context(), question)
		}
		if err := stream.Context().Err(); err != nil {
			return status.FromContextError(err).Err()
		}
		if now.Status != sent {
			if err := stream.Send(now); err != nil {
				return err
			}
			sent = now.Status
		}
		select {
		case <-changed:
		case <-time.After(watchPeriod):
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-h.registry.closed:
			return status.Error(codes.Unavailable, "shutting down")
		}
	}
}

func (h health) ask(ctx context.Context, question Question) *healthpb.HealthCheckResponse {
	if h.registry.Ask(ctx, question).OK {
		return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_NOT_SERVING}
}

func questionOf(service string) (Question, bool) {
	switch q := Question(service); q {
	case "":
		return Readiness, true
	case Startup, Liveness, Readiness, Synthetic:
		return q, true
	}
	return "", false
}

func (r *Registry) openWatch() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watches == maxWatches {
		return false
	}
	r.watches++
	return true
}

func (r *Registry) closeWatch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watches--
}
