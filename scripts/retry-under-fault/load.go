package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/drain-agent/drain-agent/app/api"
)

// payments is what a client sends and what became of it.
type payments struct {
	sent, failed int
	keys         []string // of all, failed ones too: a payment whose answer was lost may have been made
}

// pay sends n payments, each once and with a key of its own, eight at a time. With chaos they carry the header x-chaos-test.
func pay(ctx context.Context, addr string, n int, chaos bool) (payments, error) {
	conn, err := dial(addr)
	if err != nil {
		return payments{}, err
	}
	defer conn.Close()
	if chaos {
		ctx = metadata.AppendToOutgoingContext(ctx, "x-chaos-test", "true")
	}
	client, run := api.NewPaymentServiceClient(conn), rand.Text()
	out := payments{sent: n}
	for i := range n {
		out.keys = append(out.keys, fmt.Sprintf("%s-%d", run, i))
	}
	var next, failed atomic.Int64
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				try, cancel := context.WithTimeout(ctx, 15*time.Second)
				_, err := client.ProcessPayment(try, &api.ProcessPaymentRequest{
					IdempotencyKey: out.keys[i], FromAccount: fmt.Sprintf("acct-%04d", i%100), ToAccount: fmt.Sprintf("acct-%04d", (i+1)%100), Amount: 1, Currency: "USD",
				})
				cancel()
				if err != nil {
					failed.Add(1)
				}
			}
		})
	}
	workers.Wait()
	out.failed = int(failed.Load())
	return out, ctx.Err()
}

// audit counts the keys under which the ledger has a payment, and those with more than one.
func (s *service) audit(ctx context.Context, keys []string) (made, doubled int, err error) {
	for len(keys) > 0 {
		part := keys[:min(500, len(keys))]
		keys = keys[len(part):]
		reply, err := s.payments.AuditKeys(ctx, &api.AuditKeysRequest{IdempotencyKeys: part})
		if err != nil {
			return 0, 0, fmt.Errorf("ask the ledger: %w", err)
		}
		for _, key := range reply.GetKeys() {
			if len(key.GetPaymentIds()) > 0 {
				made++
			}
			if len(key.GetPaymentIds()) > 1 {
				doubled++
			}
		}
	}
	return made, doubled, nil
}

// flood asks n cheap questions, thirty-two at a time. Refusals are not errors.
func flood(ctx context.Context, addr string, n int) error {
	conn, err := dial(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	client := api.NewPaymentServiceClient(conn)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for next.Add(1) <= int64(n) {
				_, _ = client.AuditKeys(ctx, &api.AuditKeysRequest{IdempotencyKeys: []string{"none"}})
			}
		})
	}
	workers.Wait()
	return ctx.Err()
}
