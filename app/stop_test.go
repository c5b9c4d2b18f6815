package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/drain-agent/drain-agent/app/api"
	"github.com/drain-agent/drain-agent/app/internal/apptest"
)

// work of every protocol that is in flight when the stop comes, and how each of them must end.
func inFlight(t *testing.T, app *apptest.App, ms int) (all map[string]func() error, begun func() bool) {
	demo := api.NewDemoServiceClient(dial(t, app))
	get := func(path, want string) func() error {
		return func() error {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+app.Addr+path, nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err == nil && !strings.Contains(string(body), want) {
				err = fmt.Errorf("answered %q", body)
			}
			return err
		}
	}
	all = map[string]func() error{
		"HTTP":     get(fmt.Sprintf("/work?ms=%d", ms), "worked"),
		"chunked":  get(fmt.Sprintf("/stream?ms=%d&chunks=10", ms/10), "chunk 9"),
		"hijacked": get(fmt.Sprintf("/raw?ms=%d", ms), "raw"),
		"unary": func() error {
			_, err := demo.ProcessRequest(context.Background(), &api.ProcessRequestRequest{WorkMs: new(int64(ms))})
			return err
		},
		"stream": func() error {
			s, err := demo.StreamResponses(context.Background(), &api.StreamResponsesRequest{Count: 10, IntervalMs: int64(ms / 10)})
			for err == nil {
				_, err = s.Recv()
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		},
		"WebSocket": func() error {
			conn, _, err := websocket.Dial(context.Background(), "ws://"+app.Addr+"/ws", nil)
			if err != nil {
				return err
			}
			defer func() { _ = conn.CloseNow() }()
			if _, _, err = conn.Read(context.Background()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
				return fmt.Errorf("ended with %w, want 1001", err)
			}
			return nil
		},
	}
	return all, func() bool { return app.Metric("active_requests") == float64(len(all)) }
}

func begin(t *testing.T, app *apptest.App, ms int) *sync.WaitGroup {
	t.Helper()
	var wg sync.WaitGroup
	all, begun := inFlight(t, app, ms)
	for name, work := range all {
		wg.Go(func() {
			if err := work(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	app.Await("all in flight", begun)
	return &wg
}

// SIGTERM lets every protocol finish; meanwhile readiness fails, liveness does not, and management answers.
func TestStopFinishesEverything(t *testing.T) {
	app, _ := serve(t)
	wg := begin(t, app, 1500)
	app.Signal(syscall.SIGTERM)
	app.Await("readiness to fail", func() bool { code, _ := app.Get("/readyz"); return code == http.StatusServiceUnavailable })
	if code, _ := app.Get("/livez"); code != http.StatusOK {
		t.Errorf("liveness %d while stopping", code)
	}
	if app.Metric("is_shutting_down") != 1 || app.Metric("service_shutdown_duration_seconds") <= 0 {
		t.Error("metrics do not show the stop")
	}
	wg.Wait()
	if code := app.Exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	app.Start()
	app.Ready()
	if app.Metric("service_shutdown_duration_seconds") < 1 {
		t.Error("the next start does not know how long the stop took")
	}
	app.Await("the planned absence to be measured", func() bool {
		return app.Metric("service_recovery_duration_seconds_count", `failure_type="planned"`) == 1
	})
}

// The agent's call at draining, on a replica that goes on serving: subscriptions end well, WebSockets with 1001, HTTP/2 connections
// get GOAWAY, HTTP/1 answers close, what was promised is finished, and each kind is counted apart until then.
func TestDrainTellsEveryProtocol(t *testing.T) {
	app, conn := serve(t)
	demo := api.NewDemoServiceClient(conn)
	subscribe := func() grpc.ServerStreamingClient[api.ProcessRequestResponse] {
		s, err := demo.StreamResponses(t.Context(), &api.StreamResponsesRequest{IntervalMs: 10})
		if err == nil {
			_, err = s.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	subscription := subscribe()
	promised, err := demo.StreamResponses(t.Context(), &api.StreamResponsesRequest{Count: 10, IntervalMs: 100})
	if err != nil {
		t.Fatal(err)
	}
	socket, _, err := websocket.Dial(t.Context(), "ws://"+app.Addr+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.CloseNow() }()
	app.Await("each kind to be counted", func() bool {
		return app.Metric("active_work", `"grpc_stream"`) == 2 && app.Metric("active_work", `"websocket"`) == 1 && app.Metric("active_requests") == 3
	})
	if code, body := app.Do(http.MethodPost, "/drain"); code != http.StatusOK {
		t.Fatal(body)
	}
	for err == nil {
		_, err = subscription.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("the subscription ended with %v", err)
	}
	if _, _, err := socket.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the WebSocket ended with %v, want 1001", err)
	}
	got := 0
	for err = nil; err == nil; got++ {
		_, err = promised.Recv()
	}
	if got != 11 || !errors.Is(err, io.EOF) {
		t.Errorf("%d of 10 promised messages, %v", got-1, err)
	}
	app.Await("the connection to be given up after GOAWAY", func() bool { return conn.GetState() == connectivity.Idle })
	resp, err := http.Get("http://" + app.Addr + "/work?ms=1")
	if err != nil || resp.StatusCode != http.StatusOK || !resp.Close {
		t.Errorf("HTTP/1 while draining: %v %v", resp, err)
	}
	app.Await("zero in flight", func() bool { return app.Metric("active_requests") == 0 })
	if _, body := app.Do(http.MethodDelete, "/drain"); !strings.Contains(body, `"draining":false`) {
		t.Error(body)
	}
	subscribe()
}

// What does not end is cut off in time, and said.
func TestStopHasItsDeadline(t *testing.T) {
	app, conn := serve(t, "--stop-timeout=2s")
	go func() {
		_, _ = api.NewDemoServiceClient(conn).ProcessRequest(context.Background(), &api.ProcessRequestRequest{WorkMs: new(int64(3_000_000))})
	}()
	app.Await("the request", func() bool { return app.Metric("active_requests") == 1 })
	app.Signal(syscall.SIGTERM)
	if code := app.Exit(); code != 1 {
		t.Errorf("exit code %d, want 1 after cutting off a request", code)
	}
	if !strings.Contains(app.Log(), `"clean":false`) {
		t.Error("the log does not say that something was cut off")
	}
}

// A SIGTERM during a slow start ends it.
func TestStopDuringStart(t *testing.T) {
	app := apptest.New(t, binary(t), "--startup-delay=1h", "--store=sqlite:"+filepath.Join(t.TempDir(), "books.db"))
	app.Start()
	app.Await("management", func() bool { code, _ := app.Get("/livez"); return code == http.StatusOK })
	if code, _ := app.Get("/startupz"); code != http.StatusServiceUnavailable {
		t.Errorf("startup probe %d while starting", code)
	}
	app.Signal(syscall.SIGTERM)
	if code := app.Exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A drain in the middle of a batch and of requests: the batch is checkpointed and given back, requests end, the count
// comes to zero while the service still serves; another replica finishes the batch, and no item is paid twice.
func TestDrainHandsTheBatchOver(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		const items = 100
		first := apptest.New(t, binary(t), "--store="+dsn, "--batch-item-delay=20ms")
		first.Start()
		first.Ready()
		pay := api.NewPaymentServiceClient(dial(t, first))
		batch := startBatch(t, pay, items)
		position := func() int64 { return number(t, dsn, `select position from batches`) }
		first.Await("the middle of the batch", func() bool { return position() >= 10 })
		if first.Metric("active_work", `kind="batch"`) != 1 {
			t.Error("the batch is not counted as work in flight")
		}
		slow := make(chan error, 1)
		go func() {
			_, err := api.NewDemoServiceClient(dial(t, first)).ProcessRequest(context.Background(), &api.ProcessRequestRequest{WorkMs: new(int64(1000))})
			slow <- err
		}()
		first.Await("the request", func() bool { return first.Metric("active_work", `kind="grpc"`) == 1 })
		if code, body := first.Get("/drain"); code != http.StatusOK || !strings.Contains(body, `"draining":true`) {
			t.Fatalf("%d %s", code, body)
		}
		first.Await("zero in flight", func() bool { _, body := first.Get("/inflight"); return strings.Contains(body, `"active_requests":0`) })
		if err := <-slow; err != nil {
			t.Errorf("the request in flight: %v", err)
		}
		at := position()
		if at >= items || number(t, dsn, `select lease_until_ms from batches`) != 0 {
			t.Errorf("position %d of %d, want the batch given back in the middle", at, items)
		}
		if _, err := pay.ProcessPayment(t.Context(), payment("while-draining", 1)); err != nil {
			t.Errorf("a payment while draining: %v", err)
		}
		second := apptest.New(t, binary(t), "--store="+dsn)
		second.Env = []string{"POD_NAME=second"}
		second.Start()
		first.Signal(syscall.SIGTERM)
		if code := first.Exit(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		second.Await("the batch to complete", func() bool { return position() == items })
		if n := number(t, dsn, `select count(*) from payments where idem_key like '`+batch+`/%'`); n != items {
			t.Errorf("%d payments for %d items", n, items)
		}
		if damage := books(t, dsn); len(damage) > 0 {
			t.Error(damage)
		}
	})
}
