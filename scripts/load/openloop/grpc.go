package openloop

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/drain-agent/drain-agent/app/api"
)

// channels is the gRPC channels, used in turn. Retries are off. What grpc-go does on its own and cannot be turned off
// is to move a call which provably never reached a handler to another connection; such moves are counted.
type channels struct {
	conns []*grpc.ClientConn
	next  atomic.Uint64
	moved *moved
}

func newChannels(n int, d *dialer) (*channels, error) {
	ch := &channels{moved: new(moved)}
	for range n {
		cc, err := grpc.NewClient("passthrough:///"+d.target,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDisableRetry(),
			grpc.WithDisableServiceConfig(),
			grpc.WithNoProxy(),
			grpc.WithIdleTimeout(0),
			grpc.WithStatsHandler(ch.moved),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, MaxDelay: time.Second},
				MinConnectTimeout: 5 * time.Second,
			}),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return d.dial(ctx) }))
		if err != nil {
			ch.close()
			return nil, err
		}
		ch.conns = append(ch.conns, cc)
	}
	return ch, nil
}

func (ch *channels) close() {
	for _, cc := range ch.conns {
		cc.Close()
	}
}

// call makes one gRPC call.
func (ch *channels) call(ctx context.Context, takes time.Duration) exchange {
	cc := ch.conns[ch.next.Add(1)%uint64(len(ch.conns))]
	_, err := api.NewDemoServiceClient(cc).ProcessRequest(ctx, &api.ProcessRequestRequest{WorkMs: new(takes.Milliseconds())})
	if err != nil {
		return exchange{kind: "grpc-" + strings.ToLower(status.Code(err).String()), detail: status.Convert(err).Message()}
	}
	return exchange{}
}

// moved counts the calls that grpc-go moved to another connection.
type moved struct{ calls atomic.Int64 }

func (m *moved) HandleRPC(_ context.Context, s stats.RPCStats) {
	if begin, ok := s.(*stats.Begin); ok && begin.IsTransparentRetryAttempt {
		m.calls.Add(1)
	}
}

func (*moved) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*moved) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*moved) HandleConn(context.Context, stats.ConnStats)                       {}
