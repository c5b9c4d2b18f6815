// Package payments is the gRPC face of the books: it validates, asks the bank, books, and says exactly what went wrong.
package payments

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/drain-agent/drain-agent/app/api"
	"github.com/drain-agent/drain-agent/app/internal/bank"
	"github.com/drain-agent/drain-agent/app/internal/store"
)

// Service implements api.PaymentServiceServer.
type Service struct {
	api.UnimplementedPaymentServiceServer

	Store *store.Store
	Bank  *bank.Client
	Log   *slog.Logger
}

const retryAfter = 200 * time.Millisecond

// ProcessPayment moves money once per key. A call that was answered before gets its answer even when the bank is down.
func (s *Service) ProcessPayment(ctx context.Context, req *api.ProcessPaymentRequest) (*api.Payment, error) {
	if err := validate(keyProblems(req.GetIdempotencyKey()), transferProblems("", req)); err != nil {
		return nil, err
	}
	want := transferOf(req)
	p, known, err := s.Store.Paid(ctx, req.GetIdempotencyKey(), want)
	if err == nil && !known {
		if err = s.Bank.Authorise(ctx, "caller/"+req.GetIdempotencyKey()); err == nil {
			p, err = s.Store.Pay(ctx, req.GetIdempotencyKey(), want)
		}
	}
	if err != nil {
		return nil, s.fail(ctx, "process the payment", err)
	}
	return paymentOf(p), nil
}

// GetPayment reads one payment.
func (s *Service) GetPayment(ctx context.Context, req *api.GetPaymentRequest) (*api.Payment, error) {
	if err := validate(required("payment_id", req.GetPaymentId())); err != nil {
		return nil, err
	}
	p, err := s.Store.Payment(ctx, req.GetPaymentId())
	if err != nil {
		return nil, s.fail(ctx, "read the payment", err)
	}
	return paymentOf(p), nil
}

// AuditKeys tells which payments stand under each key.
func (s *Service) AuditKeys(ctx context.Context, req *api.AuditKeysRequest) (*api.AuditKeysResponse, error) {
	var problems []*violation
	if n := len(req.GetIdempotencyKeys()); n > maxAudit {
		problems = append(problems, &violation{Field: "idempotency_keys", Description: fmt.Sprintf("has %d keys, at most %d", n, maxAudit)})
	}
	for i, key := range req.GetIdempotencyKeys() {
		problems = append(problems, required(fmt.Sprintf("idempotency_keys[%d]", i), key)...)
	}
	if err := validate(problems); err != nil {
		return nil, err
	}
	out := &api.AuditKeysResponse{}
	for _, key := range req.GetIdempotencyKeys() {
		ids, err := s.Store.PaymentsOf(ctx, key)
		if err != nil {
			return nil, s.fail(ctx, "audit the keys", err)
		}
		out.Keys = append(out.Keys, &api.AuditedKey{IdempotencyKey: key, PaymentIds: ids})
	}
	return out, nil
}

// ReserveItem takes stock once per key.
func (s *Service) ReserveItem(ctx context.Context, req *api.ReserveItemRequest) (*api.Reservation, error) {
	quantity := inRange("quantity", req.GetQuantity(), maxQuantity)
	if err := validate(keyProblems(req.GetIdempotencyKey()), required("item_id", req.GetItemId()), quantity); err != nil {
		return nil, err
	}
	r, err := s.Store.Reserve(ctx, req.GetIdempotencyKey(), req.GetItemId(), req.GetQuantity())
	if err != nil {
		return nil, s.fail(ctx, "reserve the item", err)
	}
	return &api.Reservation{ReservationId: r.ID, ItemId: r.Item, Quantity: r.Quantity, StockLeft: r.StockLeft}, nil
}

// StartBatch stores a batch once per key; workers of any replica take it from there.
func (s *Service) StartBatch(ctx context.Context, req *api.StartBatchRequest) (*api.Batch, error) {
	problems := keyProblems(req.GetIdempotencyKey())
	if n := len(req.GetPayments()); n < 1 || n > maxBatch {
		problems = append(problems, &violation{Field: "payments", Description: fmt.Sprintf("has %d payments, want 1 to %d", n, maxBatch)})
	}
	items := make([]store.Transfer, 0, len(req.GetPayments()))
	for i, p := range req.GetPayments() {
		prefix := fmt.Sprintf("payments[%d].", i)
		problems = append(problems, transferProblems(prefix, p)...)
		if p.GetIdempotencyKey() != "" {
			problems = append(problems, &violation{Field: prefix + "idempotency_key", Description: "must be empty, the batch has one key"})
		}
		items = append(items, transferOf(p))
	}
	if err := validate(problems); err != nil {
		return nil, err
	}
	b, err := s.Store.StartBatch(ctx, req.GetIdempotencyKey(), items)
	if err != nil {
		return nil, s.fail(ctx, "start the batch", err)
	}
	return batchOf(b), nil
}

// GetBatch reads how far a batch is.
func (s *Service) GetBatch(ctx context.Context, req *api.GetBatchRequest) (*api.Batch, error) {
	if err := validate(required("batch_id", req.GetBatchId())); err != nil {
		return nil, err
	}
	b, err := s.Store.Batch(ctx, req.GetBatchId())
	if err != nil {
		return nil, s.fail(ctx, "read the batch", err)
	}
	return batchOf(b), nil
}

// fail logs an error and turns it into the code the caller can act on. What nobody foresaw is not shown.
func (s *Service) fail(ctx context.Context, what string, err error) error {
	answer := s.answer(ctx, what, err)
	s.Log.WarnContext(ctx, "request failed", "doing", what, "code", status.Code(answer).String(), "error", err)
	return answer
}

func (*Service) answer(ctx context.Context, what string, err error) error {
	no, refused := errors.AsType[*store.RefusalError](err)
	switch {
	case refused:
		code := codes.FailedPrecondition
		if strings.HasPrefix(no.Code, "unknown_") {
			code = codes.NotFound
		}
		return with(status.New(code, no.Message), &errdetails.ErrorInfo{Reason: strings.ToUpper(no.Code), Domain: "payments"})
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	}
	o := outcomeOf(err)
	st := status.New(o.code, what+": "+o.message)
	if !o.retry {
		return st.Err()
	}
	return with(st, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
}

func with(s *status.Status, detail protoadapt.MessageV1) error {
	if detailed, err := s.WithDetails(detail); err == nil {
		s = detailed
	}
	return s.Err()
}

func transferOf(r *api.ProcessPaymentRequest) store.Transfer {
	return store.Transfer{From: r.GetFromAccount(), To: r.GetToAccount(), Amount: r.GetAmount(), Currency: r.GetCurrency()}
}

func paymentOf(p store.Payment) *api.Payment {
	return &api.Payment{
		PaymentId: p.ID, Status: p.Status, FromAccount: p.From, ToAccount: p.To, Amount: p.Amount,
		Currency: p.Currency, CreatedMs: p.CreatedMs, IdempotencyKey: p.Key,
	}
}

func batchOf(b store.Batch) *api.Batch {
	return &api.Batch{
		BatchId: b.ID, Status: b.Status, Total: b.Total, Position: b.Position, Failed: b.Failed,
		Owner: b.Owner, UpdatedMs: b.UpdatedMs,
	}
}
