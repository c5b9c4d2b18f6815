// Package demo serves work without consequences, over gRPC and HTTP: calls of a chosen length, streams,
// WebSockets and raw responses. It is what load tests and drain tests talk to.
package demo

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/drain-agent/drain-agent/app/api"
)

const (
	defaultWork = 100 * time.Millisecond
	maxWork     = time.Hour
	maxMessages = 1_000_000
)

// Service implements api.DemoServiceServer and the HTTP routes.
type Service struct {
	api.UnimplementedDemoServiceServer

	// Pod is the name that answers carry.
	Pod string
	// Draining returns a channel that is closed when long-lived connections should end. Required.
	Draining func() <-chan struct{}
}

// ProcessRequest works for the time asked for. INVALID_ARGUMENT: work_ms is out of range.
func (s *Service) ProcessRequest(ctx context.Context, req *api.ProcessRequestRequest) (*api.ProcessRequestResponse, error) {
	work := defaultWork
	if req.WorkMs != nil {
		if ms := req.GetWorkMs(); ms < 0 || ms > maxWork.Milliseconds() {
			return nil, status.Errorf(codes.InvalidArgument, "work_ms is %d, want 0 to %d", ms, maxWork.Milliseconds())
		}
		work = time.Duration(req.GetWorkMs()) * time.Millisecond
	}
	if err := sleep(ctx, work); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	return &api.ProcessRequestResponse{Result: "Processed: " + req.GetData(), Pod: s.Pod}, nil
}

// StreamResponses sends messages at a fixed pace. A drain does not shorten what was promised: with a count all messages are
// sent. Without one it is a subscription, which a drain ends well, so that the client subscribes elsewhere.
func (s *Service) StreamResponses(req *api.StreamResponsesRequest, out grpc.ServerStreamingServer[api.ProcessRequestResponse]) error {
	if n, ms := req.GetCount(), req.GetIntervalMs(); n < 0 || n > maxMessages || ms < 0 || ms > maxWork.Milliseconds() {
		return status.Errorf(codes.InvalidArgument, "count is %d, want 0 to %d; interval_ms is %d, want 0 to %d", n, maxMessages, ms, maxWork.Milliseconds())
	}
	var draining <-chan struct{}
	if req.GetCount() == 0 {
		if req.GetIntervalMs() == 0 {
			return status.Error(codes.InvalidArgument, "without a count, interval_ms must be positive")
		}
		draining = s.Draining()
	}
	for i := int64(0); req.GetCount() == 0 || i < req.GetCount(); i++ {
		msg := &api.ProcessRequestResponse{Result: fmt.Sprintf("%d %s", i, req.GetData()), Pod: s.Pod}
		if err := out.Send(msg); err != nil {
			return fmt.Errorf("send message %d: %w", i, err)
		}
		wait := time.NewTimer(time.Duration(req.GetIntervalMs()) * time.Millisecond)
		select {
		case <-wait.C:
			continue
		case <-draining:
		case <-out.Context().Done():
			return status.FromContextError(context.Cause(out.Context())).Err()
		}
		return nil
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
