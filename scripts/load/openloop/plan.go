// Package openloop is a load generator that keeps its rate whatever comes back and never sends a request twice:
// what a real client would have lost is counted as lost. A response that says "Connection: close", a GOAWAY, or a
// connection that the server closed while nothing was under way is obeyed silently, as a careful client does.
package openloop

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Client is a way of using connections.
type Client string

// The ways of using connections.
const (
	Fresh Client = "h1-fresh" // HTTP/1.1, a connection for every request
	Kept  Client = "h1-kept"  // HTTP/1.1, a pool of kept-alive connections, longest idle first
	HTTP2 Client = "h2"       // cleartext HTTP/2 with prior knowledge, some connections shared by all requests
	GRPC  Client = "grpc"     // gRPC, some channels shared by all requests
	Slow  Client = "slow"     // HTTP/1.1, kept-alive connections that are each used once in Plan.SlowEvery
)

// Work is a share of the requests and the time they ask the server to work.
type Work struct {
	Share float64       `json:"share"`
	Takes time.Duration `json:"takes_ns"`
}

// Plan says what is sent. Its zero value is not usable; start from [DefaultPlan].
type Plan struct {
	Target     string             // host:port of the server
	Path       string             // of HTTP requests; %d takes the milliseconds of work
	Rate       float64            // requests per second, arriving at random (Poisson), without those of Slow
	Clients    map[Client]float64 // share of each client in Rate; those absent send nothing
	Work       []Work             // shares add up to 1
	Shared     int                // HTTP/2 connections, and gRPC channels
	Slow       int                // connections of the Slow client
	SlowEvery  time.Duration      // mean time between two uses of one of them
	SlowRandom bool               // times between uses are exponential; else uniform within 20 % of SlowEvery
	TLS        *tls.Config        // of every connection; nil: plain text. The server finds out the protocol itself, nothing is negotiated
	OwnSource  bool               // every connection comes from a loopback address of its own, as if from another machine
	Timeout    time.Duration      // of one request, and of dialling
	Seed       uint64             // equal seeds send the same requests at the same times
}

// DefaultPlan returns the mix of the demo for a server at target: 200 requests/s, 90 % of 20 ms, 9 % of 2 s, 1 % of 8 s.
func DefaultPlan(target string) Plan {
	return Plan{
		Target:  target,
		Path:    "/work?ms=%d",
		Rate:    200,
		Clients: map[Client]float64{Fresh: 0.3, Kept: 0.3, HTTP2: 0.2, GRPC: 0.2},
		Work: []Work{
			{Share: 0.90, Takes: 20 * time.Millisecond},
			{Share: 0.09, Takes: 2 * time.Second},
			{Share: 0.01, Takes: 8 * time.Second},
		},
		Shared:    10,
		SlowEvery: 10 * time.Second,
		Timeout:   30 * time.Second,
		Seed:      1,
	}
}

// validate reports everything that is wrong with the plan.
func (p Plan) validate() error {
	var wrong []error
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if _, _, err := net.SplitHostPort(p.Target); err != nil {
		bad("target %q: want host:port", p.Target)
	}
	if strings.Count(p.Path, "%d") != 1 || !strings.HasPrefix(p.Path, "/") {
		bad("path %q: want a path with one %%d for the milliseconds", p.Path)
	}
	if p.Rate < 0 || p.Rate == 0 && p.Slow == 0 {
		bad("rate %g and %d slow connections: nothing would be sent", p.Rate, p.Slow)
	}
	if p.Timeout <= 0 {
		bad("timeout %v: want more than 0", p.Timeout)
	}
	if p.Slow > 0 && p.SlowEvery <= 0 {
		bad("slow connections every %v: want more than 0", p.SlowEvery)
	}
	clients, work := 0.0, 0.0
	for client, share := range p.Clients {
		switch client {
		case Fresh, Kept:
		case HTTP2, GRPC:
			if p.Shared < 1 {
				bad("%d shared connections: %s needs at least 1", p.Shared, client)
			}
		case Slow:
			bad("client slow: set Slow and SlowEvery, it has a rate of its own")
		default:
			bad("client %q: want h1-fresh, h1-kept, h2 or grpc", client)
		}
		clients += share
	}
	for _, w := range p.Work {
		work += w.Share
	}
	if p.Rate > 0 && (clients < 0.999 || clients > 1.001) {
		bad("shares of the clients add up to %g, want 1", clients)
	}
	if p.Rate > 0 && (work < 0.999 || work > 1.001) {
		bad("shares of the work add up to %g, want 1", work)
	}
	return errors.Join(wrong...)
}
