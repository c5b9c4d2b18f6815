package payments

import (
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/drain-agent/drain-agent/app/internal/bank"
	"github.com/drain-agent/drain-agent/app/internal/store"
)

// outcome is what a caller is told about one cause of failure. The table in docs/explanation/payments.md is this one.
type outcome struct {
	is      error
	cause   string // for the table
	code    codes.Code
	retry   bool   // with RetryInfo: the same call under the same key
	effect  string // what is known of it, for the table
	message string
}

const none, open = "nothing was changed", "not known; the same key finds out"

// outcomes are tried in this order.
var outcomes = []outcome{
	{store.ErrNotFound, "no such payment or batch", codes.NotFound, false, none, "not found"},
	{store.ErrKeyReused, "key used with another body", codes.AlreadyExists, false, none, store.ErrKeyReused.Error()},
	{store.ErrUncertain, "connection cut, timeout or error while committing", codes.Unavailable, true, open, "the store did not confirm; whether it happened is not known, retry with the same key"},
	{store.ErrBusy, "locks, deadlock, serialization, same key still running, queue too long", codes.Aborted, true, none, "another call holds what this one needs, nothing was changed"},
	{bank.ErrDown, "bank down, or its circuit breaker open", codes.Unavailable, true, none, "the bank is not available, nothing was booked"},
	{store.ErrUnavailable, "store away, frozen (4 s without an answer), full, read-only, or this process was paused", codes.Unavailable, true, none, "the store is not available, nothing was changed, retry with the same key"},
}

// table has all rows of the table, with those that no error of ours stands for.
func table() []outcome {
	return append([]outcome{
		{cause: "a field is wrong, or no UTF-8", code: codes.InvalidArgument, effect: none},
		{cause: "no such account or item", code: codes.NotFound, effect: "the refusal is remembered"},
		{cause: "refused: no money, no stock, other currency, the house's account, balance too high", code: codes.FailedPrecondition, effect: "the refusal is remembered"},
		{cause: "the caller's deadline", code: codes.DeadlineExceeded, effect: open},
		{cause: "the caller hung up", code: codes.Canceled, effect: open},
	}, append(outcomes, outcomeOf(nil))...)
}

func outcomeOf(err error) outcome {
	for _, o := range outcomes {
		if errors.Is(err, o.is) {
			return o
		}
	}
	return outcome{nil, "anything else: a bug", codes.Internal, false, none, "internal error"}
}
