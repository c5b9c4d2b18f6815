package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/drain-agent/drain-agent/app/api"
	"github.com/drain-agent/drain-agent/app/internal/apptest"
)

// A stop that comes while the store cannot be opened is a clean one, every time.
func TestStopWithoutStore(t *testing.T) {
	for range 8 {
		app := apptest.New(t, binary(t), "--store=sqlite:/proc/nowhere/books.db")
		app.Start()
		app.Await("the reason", func() bool { _, body := app.Get("/startupz"); return strings.Contains(body, "store") })
		app.Signal(syscall.SIGTERM)
		if code := app.Exit(); code != 0 || strings.Contains(app.Log(), "panic") {
			t.Fatalf("exit code %d", code)
		}
	}
}

// Another process migrates the same file. A stop does not wait for it, and a drain that was asked for meanwhile holds.
func TestStartBehindAMigration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "books.db")
	lock, err := os.Create(path + ".migrate")
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	app := apptest.New(t, binary(t), "--store=sqlite:"+path)
	app.Start()
	app.Await("management", func() bool { code, _ := app.Get("/livez"); return code == http.StatusOK })
	app.Signal(syscall.SIGTERM)
	if code := app.Exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	app.Start()
	app.Await("the drain to be heard", func() bool { code, _ := app.Do(http.MethodPost, "/drain"); return code == http.StatusOK })
	_ = lock.Close()
	app.Ready()
	resp, err := http.Get("http://" + app.Addr + "/work?ms=1")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if !resp.Close {
		t.Error("a drain before the start was over is forgotten")
	}
}

// Commands that look or copy make nothing.
func TestCommandsMakeNoStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "typo", "books.db")
	for _, args := range [][]string{
		{"reconcile", "--dry-run", "--store=sqlite:" + path},
		{"reconcile", "--store=sqlite:" + path},
		{"backup", "--store=sqlite:" + path, filepath.Join(t.TempDir(), "copy.db")},
	} {
		var out, problem strings.Builder
		if code := run(t.Context(), args, &out, &problem); code == 0 || !strings.Contains(problem.String(), path) {
			t.Errorf("%v: exit code %d, %s%s", args, code, out.String(), problem.String())
		}
		if _, err := os.Stat(filepath.Dir(path)); err == nil {
			t.Fatalf("%v made a store", args)
		}
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := run(t.Context(), []string{"restore", "--store=sqlite:" + path, empty}, io.Discard, io.Discard); code == 0 {
		t.Error("an empty file was restored")
	}
}

// Whatever is sent, the answer fits into a header, and blames the right one.
func TestAnswersAreBounded(t *testing.T) {
	app, conn := serve(t)
	pay, demo := api.NewPaymentServiceClient(conn), api.NewDemoServiceClient(conn)
	wrong := &api.StartBatchRequest{IdempotencyKey: "b"}
	for range 100 {
		wrong.Payments = append(wrong.Payments, &api.ProcessPaymentRequest{Currency: strings.Repeat("x", 1000)})
	}
	with := func(change func(*api.ProcessPaymentRequest)) *api.ProcessPaymentRequest {
		req := payment("k", 1)
		change(req)
		return req
	}
	for name, call := range map[string]func(context.Context) error{
		"100 wrong items": func(ctx context.Context) error { _, err := pay.StartBatch(ctx, wrong); return err },
		"keys of items": func(ctx context.Context) error {
			_, err := pay.StartBatch(ctx, &api.StartBatchRequest{IdempotencyKey: "b", Payments: []*api.ProcessPaymentRequest{payment("mine", 1)}})
			return err
		},
		"NUL in a key": func(ctx context.Context) error { _, err := pay.ProcessPayment(ctx, payment("a\x00b", 1)); return err },
		"NUL in an account": func(ctx context.Context) error {
			_, err := pay.ProcessPayment(ctx, with(func(r *api.ProcessPaymentRequest) { r.ToAccount = "acct\x00" }))
			return err
		},
		"NUL in an audited key": func(ctx context.Context) error {
			_, err := pay.AuditKeys(ctx, &api.AuditKeysRequest{IdempotencyKeys: []string{"\x00"}})
			return err
		},
		"a long audited key": func(ctx context.Context) error {
			_, err := pay.AuditKeys(ctx, &api.AuditKeysRequest{IdempotencyKeys: []string{strings.Repeat("k", 5000)}})
			return err
		},
		"a currency of 1 MB": func(ctx context.Context) error {
			_, err := pay.ProcessPayment(ctx, with(func(r *api.ProcessPaymentRequest) { r.Currency = strings.Repeat("$", 1<<20) }))
			return err
		},
		"interval_ms beyond nanoseconds": func(ctx context.Context) error {
			s, err := demo.StreamResponses(ctx, &api.StreamResponsesRequest{IntervalMs: 9_223_372_036_855})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		},
		"a stream without an end that a drain would not end": func(ctx context.Context) error {
			s, err := demo.StreamResponses(ctx, &api.StreamResponsesRequest{Count: 1 << 62})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		},
		"work_ms that comes round": func(ctx context.Context) error {
			_, err := demo.ProcessRequest(ctx, &api.ProcessRequestRequest{WorkMs: new(int64(18_446_744_073_710))})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := call(t.Context())
			if size := proto.Size(status.Convert(err).Proto()); status.Code(err) != codes.InvalidArgument || size > 4096 {
				t.Errorf("%.300v, %d bytes", err, size)
			}
			if bad, ok := detail[*errdetails.BadRequest](err); name == "100 wrong items" && (!ok || len(bad.GetFieldViolations()) < 10) {
				t.Errorf("details: %v", bad)
			}
		})
	}
	for name, c := range map[string]struct {
		method, path, body string
		want               int
	}{
		"ids that are no UTF-8": {http.MethodGet, "/v1/payments/%ff", "", http.StatusBadRequest},
		"NUL in an id":          {http.MethodGet, "/v1/batches/%00", "", http.StatusBadRequest},
		"a long number":         {http.MethodGet, "/work?ms=" + strings.Repeat("9", 100_000), "", http.StatusBadRequest},
		"10 MB":                 {http.MethodPost, "/v1/payments", `{"currency":"` + strings.Repeat("x", 10<<20) + `"}`, http.StatusRequestEntityTooLarge},
		"a long unknown field":  {http.MethodPost, "/v1/payments", `{"` + strings.Repeat("x", 1<<20) + `":1}`, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+app.Addr+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != c.want || len(text) > 4096 {
				t.Errorf("%d with %d bytes: %.300s", resp.StatusCode, len(text), text)
			}
		})
	}
}

// The levers are POST, and an answer to anything else says what to type.
func TestLeversSayWhatToType(t *testing.T) {
	app, _ := serve(t)
	for _, path := range []string{"/toggle-health", "/bank-fault?mode=fail"} {
		want := fmt.Sprintf("curl -X POST 'http://%s%s'", app.Mgmt, path)
		if code, body := app.Get(path); code != http.StatusMethodNotAllowed || !strings.Contains(body, want) {
			t.Errorf("GET %s: %d %s", path, code, body)
		}
	}
	if app.Metric("is_healthy") != 1 {
		t.Error("a GET toggled something")
	}
}
