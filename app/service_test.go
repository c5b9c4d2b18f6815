package main

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/drain-agent/drain-agent/app/api"
	"github.com/drain-agent/drain-agent/app/internal/apptest"
)

func serve(t *testing.T, args ...string) (*apptest.App, *grpc.ClientConn) {
	t.Helper()
	app := apptest.New(t, binary(t), append([]string{"--store=sqlite:" + filepath.Join(t.TempDir(), "books.db")}, args...)...)
	app.Start()
	app.Ready()
	return app, dial(t, app)
}

func dial(t *testing.T, app *apptest.App) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(app.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func payment(key string, amount int64) *api.ProcessPaymentRequest {
	return &api.ProcessPaymentRequest{IdempotencyKey: key, FromAccount: "acct-0000", ToAccount: "acct-0001", Amount: amount, Currency: "USD"}
}

func detail[T any](err error) (found T, ok bool) {
	for _, d := range status.Convert(err).Details() {
		if found, ok = d.(T); ok {
			return found, true
		}
	}
	return found, false
}

// Each mistake gets its own code, and the answer says which field or rule it was.
func TestCodes(t *testing.T) {
	_, conn := serve(t)
	pay := api.NewPaymentServiceClient(conn)
	if _, err := pay.ProcessPayment(t.Context(), payment("k", 5)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		call func(context.Context) error
		want codes.Code
	}{
		"nothing filled in": {func(ctx context.Context) error {
			_, err := pay.ProcessPayment(ctx, &api.ProcessPaymentRequest{})
			if bad, ok := detail[*errdetails.BadRequest](err); !ok || len(bad.GetFieldViolations()) != 5 {
				t.Errorf("field violations: %v, want one for each field", bad)
			}
			return err
		}, codes.InvalidArgument},
		"to itself": {func(ctx context.Context) error {
			req := payment("self", 1)
			req.ToAccount = req.GetFromAccount()
			_, err := pay.ProcessPayment(ctx, req)
			return err
		}, codes.InvalidArgument},
		"same key, other amount": {func(ctx context.Context) error {
			_, err := pay.ProcessPayment(ctx, payment("k", 6))
			return err
		}, codes.AlreadyExists},
		"too much": {func(ctx context.Context) error {
			_, err := pay.ProcessPayment(ctx, payment("much", 1_000_000_000))
			if info, ok := detail[*errdetails.ErrorInfo](err); !ok || info.GetReason() != "INSUFFICIENT_FUNDS" {
				t.Errorf("reason: %v", info)
			}
			return err
		}, codes.FailedPrecondition},
		"unknown account": {func(ctx context.Context) error {
			req := payment("who", 1)
			req.ToAccount = "nobody"
			_, err := pay.ProcessPayment(ctx, req)
			return err
		}, codes.NotFound},
		"unknown payment": {func(ctx context.Context) error {
			_, err := pay.GetPayment(ctx, &api.GetPaymentRequest{PaymentId: "nope"})
			return err
		}, codes.NotFound},
		"too many items": {func(ctx context.Context) error {
			_, err := pay.ReserveItem(ctx, &api.ReserveItemRequest{IdempotencyKey: "i", ItemId: "item-0000", Quantity: 1_000_000})
			if err != nil {
				return err
			}
			_, err = pay.ReserveItem(ctx, &api.ReserveItemRequest{IdempotencyKey: "j", ItemId: "item-0000", Quantity: 1})
			return err
		}, codes.FailedPrecondition},
		"a batch with a bad item": {func(ctx context.Context) error {
			_, err := pay.StartBatch(ctx, &api.StartBatchRequest{IdempotencyKey: "b", Payments: []*api.ProcessPaymentRequest{payment("", 1), payment("", -1)}})
			if bad, ok := detail[*errdetails.BadRequest](err); !ok || bad.GetFieldViolations()[0].GetField() != "payments[1].amount" {
				t.Errorf("field violations: %v", bad)
			}
			return err
		}, codes.InvalidArgument},
		"deadline": {func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 1)
			defer cancel()
			_, err := pay.ProcessPayment(ctx, payment("late", 1))
			return err
		}, codes.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.call(t.Context()); status.Code(err) != c.want {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// Health has a name per question, and reflection lists the services.
func TestHealthAndReflection(t *testing.T) {
	app, conn := serve(t)
	health := healthpb.NewHealthClient(conn)
	ask := func(service string) healthpb.HealthCheckResponse_ServingStatus {
		resp, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetStatus()
	}
	for _, service := range []string{"liveness", "readiness", "startup", "synthetic-readiness"} {
		if got := ask(service); got != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("%s: %v", service, got)
		}
	}
	if _, body := app.Do(http.MethodPost, "/toggle-health"); !strings.Contains(body, "false") {
		t.Errorf("toggle-health: %s", body)
	}
	if ask("readiness") != healthpb.HealthCheckResponse_NOT_SERVING || ask("liveness") != healthpb.HealthCheckResponse_SERVING {
		t.Error("a broken local dependency must fail readiness and leave liveness alone")
	}
	stream, err := reflectpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err == nil {
		err = stream.Send(&reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_ListServices{}})
	}
	if err != nil {
		t.Fatal(err)
	}
	list, err := stream.Recv()
	if err != nil || !strings.Contains(list.String(), "demo.v1.PaymentService") {
		t.Errorf("reflection: %v %v", list, err)
	}
	// A watch of our health is no work: nothing may wait for it.
	watch, err := health.Watch(t.Context(), &healthpb.HealthCheckRequest{Service: "readiness"})
	if err == nil {
		_, err = watch.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.CloseSend()
	app.Await("nothing in flight", func() bool { return app.Metric("active_requests") == 0 })
}

// The HTTP twin: same answers, ids come back, the trace goes on into the log.
func TestHTTPTwin(t *testing.T) {
	app, _ := serve(t, "--bank-fault=fail")
	const trace = "0af7651916cd43dd8448eb211c80319c"
	call := func(method, path, body string) (int, http.Header, map[string]any) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+app.Addr+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Request-Id", "req-1")
		req.Header.Set("Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var got map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, got
	}
	body := `{"idempotency_key":"k","from_account":"acct-0000","to_account":"acct-0001","amount":5,"currency":"USD"}`
	if code, _, got := call(http.MethodPost, "/v1/payments", body); code != http.StatusServiceUnavailable {
		t.Errorf("with the bank down: %d %v", code, got)
	}
	if code, text := app.Do(http.MethodPost, "/bank-fault?mode=none"); code != http.StatusOK {
		t.Fatal(text)
	}
	code, header, got := call(http.MethodPost, "/v1/payments", body)
	if code != http.StatusOK || header.Get("X-Request-Id") != "req-1" || header.Get("X-Correlation-Id") != "req-1" || header.Get("X-Pod") == "" {
		t.Errorf("%d %v %v", code, header, got)
	}
	if code, _, again := call(http.MethodGet, "/v1/payments/"+got["payment_id"].(string), ""); code != http.StatusOK || again["amount"] != "5" {
		t.Errorf("GET: %d %v", code, again)
	}
	if code, _, got := call(http.MethodPost, "/v1/payments", `{"amount":`); code != http.StatusBadRequest {
		t.Errorf("broken JSON: %d %v", code, got)
	}
	if code, _, got := call(http.MethodPost, "/v1/payments", strings.Replace(body, "5", "6", 1)); code != http.StatusConflict {
		t.Errorf("key reused: %d %v", code, got)
	}
	app.Await("the request in the log", func() bool {
		return strings.Contains(app.Log(), `"request_id":"req-1"`) && strings.Contains(app.Log(), `"trace_id":"`+trace+`"`)
	})
}

// A bank that is down opens the breaker, which is seen, fails nobody's readiness and no replay, and closes again
// through half-open when the bank is back.
func TestBreaker(t *testing.T) {
	app, conn := serve(t)
	pay := api.NewPaymentServiceClient(conn)
	before, err := pay.ProcessPayment(t.Context(), payment("before", 1))
	if err != nil {
		t.Fatal(err)
	}
	app.Do(http.MethodPost, "/bank-fault?mode=fail")
	for range 5 {
		_, err := pay.ProcessPayment(t.Context(), payment("down", 1))
		if _, advice := detail[*errdetails.RetryInfo](err); status.Code(err) != codes.Unavailable || !advice {
			t.Fatalf("with the bank down: %v, want UNAVAILABLE with retry advice", err)
		}
	}
	if app.Metric("bank_breaker_state", `state="open"`) != 1 {
		t.Error("five failures in a row left the breaker closed")
	}
	asked := app.Metric("bank_calls_total", `result="failed"`)
	if _, err := pay.ProcessPayment(t.Context(), payment("down", 1)); status.Code(err) != codes.Unavailable {
		t.Errorf("with the breaker open: %v", err)
	}
	if again := app.Metric("bank_calls_total", `result="failed"`); again != asked || app.Metric("bank_calls_total", `result="rejected"`) != 1 {
		t.Error("an open breaker still asks the bank")
	}
	if same, err := pay.ProcessPayment(t.Context(), payment("before", 1)); err != nil || same.GetPaymentId() != before.GetPaymentId() {
		t.Errorf("an answer that is known needs no bank: %v %v", same, err)
	}
	if code, body := app.Get("/readyz?verbose"); code != http.StatusOK || !strings.Contains(body, "[~]bank degraded") {
		t.Errorf("readiness %d:\n%s", code, body)
	}
	if code, _ := app.Get("/syntheticz"); code != http.StatusServiceUnavailable {
		t.Errorf("synthetic readiness %d with the bank down", code)
	}
	app.Do(http.MethodPost, "/bank-fault?mode=none")
	app.Await("a payment to go through again", func() bool {
		_, err := pay.ProcessPayment(t.Context(), payment("down", 1))
		return err == nil
	})
	for i := range 3 {
		if _, err := pay.ProcessPayment(t.Context(), payment("after"+string(rune('a'+i)), 1)); err != nil {
			t.Error(err)
		}
	}
	if app.Metric("bank_breaker_transitions_total", `from="open"`, `to="half-open"`) < 1 || app.Metric("bank_breaker_state", `state="closed"`) != 1 {
		t.Error("the breaker did not close through half-open")
	}
}
