// Package client sends traffic at a fixed rate and then asks the ledger whether every promise was kept.
package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/drain-agent/drain-agent/app/api"
)

// Config says what to send. Target, Rate, Concurrency, Mode and Timeout are required.
type Config struct {
	Target      string
	Rate        float64       // per second, open loop: a slow answer delays nothing but itself
	Duration    time.Duration // 0: until ctx ends
	Concurrency int           // what would exceed it is counted as not sent
	Keys        int           // 0: a new idempotency key for every payment
	Mode        string        // "payments", "requests", "mixed"
	RetryFor    time.Duration // 0: no retries
	Timeout     time.Duration // of one try
	Accounts    int
	WorkMs      int64
	Progress    func(line string) // called about once a second; may be nil
}

const (
	auditSize = 500
	auditFor  = 30 * time.Second // how long the check waits at least for a service that is just coming back
)

type run struct {
	Config
	demo     api.DemoServiceClient
	payments api.PaymentServiceClient
	prefix   string
	tally    *tally
	slots    chan struct{}
	sent     sync.WaitGroup
}

// Run sends until the duration is over or ctx ends, waits for the answers, and checks the ledger.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.Rate <= 0 || cfg.Concurrency <= 0 {
		return nil, errors.New("send traffic: rate and concurrency must be positive")
	}
	conn, err := Dial(cfg.Target)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	r := &run{
		Config: cfg, demo: api.NewDemoServiceClient(conn), payments: api.NewPaymentServiceClient(conn),
		prefix: rand.Text()[:10], tally: newTally(), slots: make(chan struct{}, cfg.Concurrency),
	}
	r.send(ctx)
	r.sent.Wait()
	report := r.tally.report()
	report.Ledger = r.audit(context.WithoutCancel(ctx))
	return report, nil
}

// Dial makes a connection that finds a restarted service soon and hides no failure: gRPC's own retries would not show what
// a stop does to clients. It fails when target cannot be parsed.
func Dial(target string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
		grpc.WithConnectParams(quickReconnect))
	if err != nil {
		return nil, fmt.Errorf("send traffic to %s: %w", target, err)
	}
	return conn, nil
}

// send starts every request at its own time, counted from the beginning.
func (r *run) send(ctx context.Context) {
	if r.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Duration)
		defer cancel()
	}
	began, told := time.Now(), time.Now()
	gap := time.Duration(float64(time.Second) / r.Rate)
	for n := 0; ; n++ {
		due := began.Add(time.Duration(n) * gap)
		wait := time.NewTimer(time.Until(due))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		select {
		case r.slots <- struct{}{}:
			r.sent.Go(func() {
				defer func() { <-r.slots }()
				r.one(n, due)
			})
		default:
			r.tally.notSent()
		}
		if r.Progress != nil && time.Since(told) >= time.Second {
			told = time.Now()
			r.Progress(r.tally.progress(time.Since(began)))
		}
	}
}

// one sends request n. Its latency counts from when it was due: time spent waiting for us is the user's time too.
func (r *run) one(n int, due time.Time) {
	var err error
	if r.Mode == "payments" || (r.Mode == "mixed" && n%2 == 0) {
		err = r.pay(n, due)
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), r.Timeout)
		defer cancel()
		_, err = r.demo.ProcessRequest(ctx, &api.ProcessRequestRequest{Data: "x", WorkMs: &r.WorkMs})
	}
	r.tally.done(status.Code(err), time.Since(due))
}

func (r *run) pay(n int, due time.Time) error {
	req := r.payment(n)
	for pause := retryPause; ; pause = min(2*pause, maxRetryPause) {
		ctx, cancel := context.WithTimeout(context.Background(), r.Timeout)
		p, err := r.payments.ProcessPayment(ctx, req)
		cancel()
		if err == nil {
			r.tally.acknowledged(req.GetIdempotencyKey(), p.GetPaymentId())
			return nil
		}
		if !again(err) || time.Since(due) > r.RetryFor {
			return err
		}
		r.tally.retried()
		<-time.After(pause/2 + mathrand.N(pause))
	}
}

// payment n is always the same for the same key.
func (r *run) payment(n int) *api.ProcessPaymentRequest {
	if r.Keys > 0 {
		n = mathrand.IntN(r.Keys)
	}
	from := n % r.Accounts
	return &api.ProcessPaymentRequest{
		IdempotencyKey: fmt.Sprintf("%s-%d", r.prefix, n),
		FromAccount:    fmt.Sprintf("acct-%04d", from),
		ToAccount:      fmt.Sprintf("acct-%04d", (from+1+n/r.Accounts%(r.Accounts-1))%r.Accounts),
		Amount:         int64(1 + n%100),
		Currency:       "USD",
	}
}

// again tells failures after which the same key may be tried again from answers that will not change.
func again(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Aborted, codes.DeadlineExceeded, codes.Canceled, codes.Internal, codes.Unknown:
		return true
	default:
		return false
	}
}

// audit asks for every acknowledged key which payments stand under it.
func (r *run) audit(ctx context.Context) Ledger {
	acked := r.tally.acked
	out := Ledger{Acknowledged: len(acked), Checked: true}
	keys := make([]string, 0, len(acked))
	for key := range acked {
		keys = append(keys, key)
	}
	for len(keys) > 0 {
		part := keys[:min(auditSize, len(keys))]
		keys = keys[len(part):]
		resp, err := r.ask(ctx, part)
		if err != nil {
			return Ledger{Acknowledged: len(acked), Problem: err.Error()}
		}
		for _, k := range resp.GetKeys() {
			switch ids := k.GetPaymentIds(); {
			case len(ids) > 1:
				out.Doubled++
			case len(ids) == 0 || ids[0] != acked[k.GetIdempotencyKey()]:
				out.Lost++
			}
		}
	}
	return out
}

func (r *run) ask(ctx context.Context, keys []string) (*api.AuditKeysResponse, error) {
	for deadline := time.Now().Add(max(auditFor, r.RetryFor)); ; {
		try, cancel := context.WithTimeout(ctx, r.Timeout)
		resp, err := r.payments.AuditKeys(try, &api.AuditKeysRequest{IdempotencyKeys: keys})
		cancel()
		if err == nil && len(resp.GetKeys()) != len(keys) {
			return nil, fmt.Errorf("asked for %d keys, got %d", len(keys), len(resp.GetKeys()))
		}
		if err == nil || !again(err) || time.Now().After(deadline) {
			return resp, err
		}
		<-time.After(retryPause)
	}
}
