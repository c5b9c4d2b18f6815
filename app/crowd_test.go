package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/drain-agent/drain-agent/app/api"
	"github.com/drain-agent/drain-agent/app/internal/apptest"
	"github.com/drain-agent/drain-agent/scripts/pgtest"
)

// freezes is how long the database stands still at least: as long as the callers need for two answers each, or as
// $APP_FREEZE says (make soak: 38s).
func freezes(t *testing.T) time.Duration {
	d, err := time.ParseDuration(os.Getenv("APP_FREEZE"))
	if err != nil && os.Getenv("APP_FREEZE") != "" {
		t.Fatalf("APP_FREEZE: %v", err)
	}
	return d
}

// PostgreSQL stands still under 16 callers over gRPC, who pay, reserve and read. All of them are told so long before
// their own deadline, each time, with advice to come again; the same keys work afterwards, and book once.
func TestFrozenPostgresOverGRPC(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.NewDatabase()
	app := apptest.New(t, binary(t), "--store="+dsn)
	app.Start()
	app.Ready()
	pay := api.NewPaymentServiceClient(dial(t, app))
	first, err := pay.ProcessPayment(t.Context(), payment("first", 1))
	if err != nil {
		t.Fatal(err)
	}
	calls := []func(ctx context.Context, key string) error{
		func(ctx context.Context, key string) error {
			_, err := pay.ProcessPayment(ctx, payment(key, 1))
			return err
		},
		func(ctx context.Context, _ string) error {
			_, err := pay.ProcessPayment(ctx, payment("first", 1))
			return err
		},
		func(ctx context.Context, _ string) error {
			_, err := pay.GetPayment(ctx, &api.GetPaymentRequest{PaymentId: first.GetPaymentId()})
			return err
		},
		func(ctx context.Context, key string) error {
			_, err := pay.ReserveItem(ctx, &api.ReserveItemRequest{IdempotencyKey: "r" + key, ItemId: "item-0000", Quantity: 1})
			return err
		},
	}
	const callers, asked = 16, 2
	each := func(try func(caller int, call func(ctx context.Context) error)) {
		together := sync.WaitGroup{}
		for i := range callers {
			together.Go(func() {
				try(i, func(ctx context.Context) error { return calls[i%len(calls)](ctx, fmt.Sprint("k", i)) })
			})
		}
		together.Wait()
	}
	thaw := server.Freeze()
	defer thaw()
	began, long := time.Now(), freezes(t)
	each(func(i int, call func(context.Context) error) {
		for n := 0; n < asked || time.Since(began) < long; n++ {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // nobody comes near it
			err := call(ctx)
			cancel()
			if _, advice := detail[*errdetails.RetryInfo](err); !advice || (status.Code(err) != codes.Unavailable && status.Code(err) != codes.Aborted) {
				t.Errorf("caller %d, answer %d: %v, advice %v; want UNAVAILABLE or ABORTED with RetryInfo", i, n, err, advice)
			}
		}
	})
	thaw()
	each(func(i int, call func(context.Context) error) {
		app.Await(fmt.Sprintf("caller %d after the thaw", i), func() bool { return call(t.Context()) == nil })
	})
	if damage := books(t, dsn); len(damage) > 0 {
		t.Error(damage)
	}
	if n := number(t, dsn, `select count(*) from payments where idem_key like 'k%'`); n != callers/int64(len(calls)) {
		t.Errorf("%d payments under %d keys", n, callers/len(calls))
	}
}

// The service itself is stopped in its tracks under callers who pay, for longer than it waits for any statement. Afterwards
// each answer is a payment or an invitation to come again, and whoever came again has paid once.
func TestPausedServiceOverGRPC(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		app := apptest.New(t, binary(t), "--store="+dsn)
		app.Start()
		app.Ready()
		pay := api.NewPaymentServiceClient(dial(t, app))
		const callers = 16
		var paid [callers]atomic.Int64
		more := func() { // each has paid again
			var before [callers]int64
			for i := range paid {
				before[i] = paid[i].Load()
			}
			for i := range paid {
				app.Await(fmt.Sprint("a payment of caller ", i), func() bool { return t.Failed() || paid[i].Load() > before[i] })
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var crowd sync.WaitGroup
		for i := range callers {
			crowd.Go(func() {
				for ctx.Err() == nil {
					_, err := pay.ProcessPayment(ctx, payment(fmt.Sprint("k", i, "-", paid[i].Load()), 1))
					switch _, advice := detail[*errdetails.RetryInfo](err); {
					case err == nil:
						paid[i].Add(1)
					case ctx.Err() == nil && (!advice || (status.Code(err) != codes.Unavailable && status.Code(err) != codes.Aborted)):
						t.Errorf("caller %d: %v, advice %v; want UNAVAILABLE or ABORTED with RetryInfo", i, err, advice)
						return
					}
				}
			})
		}
		more()
		app.Signal(syscall.SIGSTOP)
		<-time.After(6 * time.Second) // its patience is 4 s
		app.Signal(syscall.SIGCONT)
		more()
		stop()
		crowd.Wait()
		if damage := books(t, dsn); len(damage) > 0 {
			t.Error(damage)
		}
	})
}

// 1,500 callers want to pay into one SQLite file and come again whatever they are told. The service stays ready, since its
// sign of life does not wait with them, and every answer is a payment or an invitation to come again.
func TestManyCallersLeaveItReady(t *testing.T) {
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "books.db")
	app, _ := serve(t, "--store="+dsn)
	const callers, conns = 1500, 10 // a connection has room for 250 calls
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var paid, again atomic.Int64
	var crowd sync.WaitGroup
	for range conns {
		pay := api.NewPaymentServiceClient(dial(t, app))
		for range callers / conns {
			crowd.Go(func() {
				for ctx.Err() == nil {
					_, err := pay.ProcessPayment(ctx, payment(fmt.Sprint("k", paid.Load()+again.Load()), 1))
					_, advice := detail[*errdetails.RetryInfo](err)
					switch {
					case err == nil:
						paid.Add(1)
					case advice:
						again.Add(1)
					case ctx.Err() == nil:
						t.Error(err)
						return
					}
				}
			})
		}
	}
	app.Await("1,400 calls in flight, some of them sent away", func() bool {
		return app.Metric("active_work", `kind="http"`)+app.Metric("active_work", `kind="grpc"`) > 1400 && again.Load() > 100
	})
	last := number(t, dsn, `select max(at_ms) from marks`)
	for range 6 { // signs of life
		app.Await("a sign of life", func() bool {
			if code, body := app.Get("/readyz?verbose"); strings.Contains(body, "no turn came") {
				t.Fatalf("readiness %d: the sign of life waits with the callers: %s", code, body)
			}
			was := last
			last = number(t, dsn, `select max(at_ms) from marks`)
			return last > was
		})
	}
	app.Ready()
	stop()
	crowd.Wait()
	t.Logf("%d paid, %d invited to come again", paid.Load(), again.Load())
	if damage := books(t, dsn); len(damage) > 0 {
		t.Error(damage)
	}
}

// A text that is not UTF-8 is the caller's mistake, on every call and store alike.
func TestUnreadableMessages(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		app := apptest.New(t, binary(t), "--store="+dsn)
		app.Start()
		app.Ready()
		conn := dial(t, app)
		text := raw(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte("a\xffb")))
		for _, method := range []string{
			api.PaymentService_ProcessPayment_FullMethodName, api.PaymentService_GetPayment_FullMethodName,
			api.PaymentService_AuditKeys_FullMethodName, api.PaymentService_ReserveItem_FullMethodName,
			api.PaymentService_StartBatch_FullMethodName, api.PaymentService_GetBatch_FullMethodName,
			api.DemoService_ProcessRequest_FullMethodName, api.DemoService_StreamResponses_FullMethodName,
		} {
			for what, body := range map[string]raw{"no UTF-8": text, "no message": raw("\xff\xff")} {
				err := conn.Invoke(t.Context(), method, body, new(raw), grpc.ForceCodecV2(rawCodec{}))
				if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "unmarshal") {
					t.Errorf("%s, %s: %v", method, what, err)
				}
			}
		}
	})
}

// raw is a message that is sent as it is.
type raw []byte

type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.(raw))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*raw) = data.Materialize()
	return nil
}
