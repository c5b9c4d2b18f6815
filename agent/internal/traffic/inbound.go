package traffic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// maxClosed is how many sockets a dump may have before connections in TIME_WAIT are no longer asked for.
const maxClosed = 4096

// Inbound follows the connections that arrive at some local ports.
//
// It samples. A connection that came and went between two looks is seen only if this side closed first and it is not
// from this machine: then it stands in TIME_WAIT for a minute. A connection from this machine counts as new at its
// second sight, because a short one of our own could not be told from it at its first. Above maxClosed sockets
// TIME_WAIT is left out for good, and every connection shorter than the period may be missed.
type Inbound struct {
	mu     sync.Mutex
	follow *follower
}

// InboundSample is one look. All counts are unknown when Err is set.
type InboundSample struct {
	Conns    drain.Count // connections open now
	NewConns drain.Count // connections that appeared since the first look, which only takes stock
	Data     drain.Count // segments with data from clients since the first look; only after CountData
	Bytes    drain.Count // bytes in send queues that their peers go on taking, the last some within drain.StallAfter
	Stalled  drain.Count // bytes in the other send queues
	Err      error
}

// NewInbound follows the given local ports, on every address and in both families.
func NewInbound(ports []uint16) *Inbound {
	return &Inbound{follow: newFollower(slices.Clone(ports), open|closing|closed)}
}

// CountData has counted what clients send, too. It must not be called after the first Look.
func (i *Inbound) CountData() { i.follow.table.data = true }

// Via returns how sockets are read: "sock_diag", or "/proc/net/tcp" after netlink was refused.
func (i *Inbound) Via() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.follow.table.via
}

// Look takes a sample. After a failed one the next counts everything since the last good one.
// One look walks the node's connection table once, however many ports there are.
func (i *Inbound) Look(ctx context.Context) InboundSample {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.follow.table.ports) == 0 {
		return InboundSample{Err: errors.New("follow inbound connections: no ports given")}
	}
	t, err := i.follow.look(ctx)
	if err != nil {
		return InboundSample{Err: fmt.Errorf("follow inbound connections: %w", err)}
	}
	if len(i.follow.seen) > maxClosed {
		i.follow.states &^= closed
	}
	sample := InboundSample{Conns: drain.Known(t.open), NewConns: drain.Known(t.fresh), Bytes: drain.Known(t.moving), Stalled: drain.Known(t.stalled)}
	if i.follow.table.data && !t.untold {
		sample.Data = drain.Known(t.data)
	}
	return sample
}
