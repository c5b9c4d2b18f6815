package traffic

import (
	"context"
	"fmt"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// socketKind counts the open connections of a local port. Idle kept-alive connections count, as from outside they look
// like requests that take long; a proxy's own idle ones do not: see Source.BehindProxy.
func socketKind(s string) (kind, error) {
	port, err := parsePort(s)
	if err != nil {
		return kind{}, err
	}
	f := newFollower([]uint16{port}, open)
	var met bool // somebody was seen there: without that, none may mean that the port is wrong
	read := func(ctx context.Context) (drain.Count, error) {
		t, err := f.look(ctx)
		if err != nil {
			return drain.Count{}, err
		}
		if met = met || t.listening || t.open > 0; !met {
			return drain.Count{}, fmt.Errorf("nothing listens on port %d, nor did since the start", port)
		}
		return drain.Known(t.open), nil
	}
	return kind{read: read, sockets: f}, nil
}
