package e2e

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/drain-agent/drain-agent/app/api"
)

// A stream that nobody ends is held to the deadline and ended by the app's SIGTERM. Envoy sends GOAWAY only with the next response, so
// the client opens it again at once on the same connection. That cannot be helped without a drain URL; it is counted.
func TestLongStreamWithoutDrainURL(t *testing.T) {
	t.Parallel()
	u := start(t, setup{grace: 14, noApp: true, agent: []string{byKind}})
	conn, err := grpc.NewClient(u.addr(inbound), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 120*time.Second)
	defer cancel()
	ends := make(chan error, 2)
	go func() {
		for range 2 { // the one that is cut, and the one that is opened again
			ends <- u.stream(ctx, conn)
		}
	}()
	u.holds("grpc_stream", 1)
	u.stop()
	first, again := <-ends, <-ends
	v := u.verdict("deadline")
	if v.Score == nil || *v.Score < 1 {
		t.Errorf("score %v: a stream was open when the app was let go", v.Score)
	}
	late := int64(-1)
	if v.ArrivalsAfterRelease != nil {
		late = *v.ArrivalsAfterRelease
	}
	t.Logf("the stream ended with %v, opened again it ended with %v; %d arrivals after the release", first, again, late)
}

// stream opens a stream and returns how it ended.
func (u *under) stream(ctx context.Context, conn *grpc.ClientConn) error {
	s, err := api.NewDemoServiceClient(conn).StreamResponses(ctx, &api.StreamResponsesRequest{IntervalMs: 100})
	for err == nil {
		_, err = s.Recv()
	}
	return err
}
