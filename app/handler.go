package main

import (
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"

	"github.com/drain-agent/drain-agent/app/api"
	"github.com/drain-agent/drain-agent/app/internal/demo"
	"github.com/drain-agent/drain-agent/app/internal/inflight"
	"github.com/drain-agent/drain-agent/app/internal/payments"
	"github.com/drain-agent/drain-agent/app/internal/store"
	"github.com/drain-agent/drain-agent/app/internal/telemetry"
)

// handler is everything served on the data port. All of it passes through one counter and one set of ids, because
// all of it, gRPC included, is HTTP to the one server below; hence also one shutdown for all.
func (a *app) handler(s *store.Store) http.Handler {
	work := &demo.Service{Pod: a.pod, Draining: a.state.Draining}
	pay := &payments.Service{Store: s, Bank: a.bank, Log: a.log}

	calls := grpc.NewServer(grpc.StreamInterceptor(a.count.Stream))
	api.RegisterDemoServiceServer(calls, work)
	api.RegisterPaymentServiceServer(calls, pay)
	a.probes.RegisterGRPC(calls)
	reflection.Register(calls)

	web := http.NewServeMux()
	work.Routes(web)
	web.HandleFunc("POST /v1/process", jsonCall(work.ProcessRequest))
	web.HandleFunc("POST /v1/payments", jsonCall(pay.ProcessPayment))
	web.HandleFunc("GET /v1/payments/{payment_id}", jsonCall(pay.GetPayment))
	web.HandleFunc("POST /v1/reservations", jsonCall(pay.ReserveItem))
	web.HandleFunc("POST /v1/batches", jsonCall(pay.StartBatch))
	web.HandleFunc("GET /v1/batches/{batch_id}", jsonCall(pay.GetBatch))

	return a.count.Handler(telemetry.Handler(a.traces.Tracer("app"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Pod", a.pod)
		if inflight.IsGRPC(r) {
			calls.ServeHTTP(w, r)
			blameCaller(w.Header())
			return
		}
		web.ServeHTTP(w, r)
	})))
}

// blameCaller corrects the trailer of a call whose message could not be read, for instance because a text in it is not
// UTF-8: gRPC says INTERNAL, which callers take for a fault of ours, and asks nobody before it says so.
func blameCaller(trailer http.Header) {
	internal := strconv.Itoa(int(codes.Internal))
	if trailer.Get("Grpc-Status") == internal && strings.HasPrefix(trailer.Get("Grpc-Message"), "grpc: failed to unmarshal the received message") {
		trailer.Set("Grpc-Status", strconv.Itoa(int(codes.InvalidArgument)))
	}
}
