package envoy_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
)

// A whole answer that is only under way makes nothing new: what is repeated until it comes is as old as the answer before it.
func TestAnswerUnderWayMakesNothingNew(t *testing.T) {
	var others strings.Builder
	for i := range 300 { // more than a filter can name
		fmt.Fprintf(&others, `{"name":"outbound|80||service-%d.namespace.svc.cluster.local","host_statuses":[{}]},`, i)
	}
	idle := strings.Replace(strings.ReplaceAll(oneRequest, `"1"`, `"0"`), `[{"name":"app"`, `[`+others.String()+`{"name":"app"`, 1)
	inBubble(t, 0, "", func(t *testing.T, server *server, c *envoy.Client, dear fake, _ *int) {
		took := 100 * time.Millisecond
		dear["/clusters"] = func(w http.ResponseWriter, r *http.Request) {
			<-time.After(took)
			fmt.Fprint(w, idle)
		}
		server.use(dear)
		describe(t, c)
		until(t, c, "nothing", inFlight(0))
		read := time.Now()
		took = 3 * time.Second
		<-time.After(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		asked := time.Now()
		s := c.Prove(ctx, asked)
		if s.InFlight == drain.Known(0) && time.Now().Add(-s.Age).After(read.Add(time.Second+time.Since(asked))) {
			t.Errorf("a zero of before is said to be %v old: %+v", s.Age, s)
		}
		<-time.After(5 * time.Second) // for what is under way
	})
}

// A whole answer that fails takes nothing away: what it would have renewed is as old as it was, and what was busy is read on.
func TestWholeAnswerThatFailsTakesNothingAway(t *testing.T) {
	inBubble(t, 0, "", func(t *testing.T, server *server, c *envoy.Client, dear fake, _ *int) {
		fails := false
		dear["/clusters"] = func(w http.ResponseWriter, r *http.Request) {
			if fails && r.URL.Query().Get("filter") == "" {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			<-time.After(60 * time.Millisecond)
			fmt.Fprint(w, oneRequest)
		}
		server.use(dear)
		describe(t, c)
		until(t, c, "the request", inFlight(1))
		fails = true
		<-time.After(time.Minute)
		if s := c.Sample(t.Context()); s.InFlight.Known {
			t.Fatalf("the answer that fails was not asked for: %+v", s)
		}
		if s := c.Sample(t.Context()); s.InFlight != drain.Known(1) {
			t.Errorf("after an answer that failed: %+v", s)
		}
		<-time.After(5 * time.Second) // for what is under way
	})
}
