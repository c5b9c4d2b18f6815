package payments

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/drain-agent/drain-agent/app/api"
)

const (
	maxName     = 200
	maxAmount   = 1_000_000_000_000
	maxQuantity = 1_000_000
	maxBatch    = 10_000
	maxAudit    = 1000
	maxProblems = 16 // told of one request: they travel in a header, and proxies cut at 8 KiB
)

type violation = errdetails.BadRequest_FieldViolation

var currencyCode = regexp.MustCompile(`^[A-Z]{3}$`)

// validate answers INVALID_ARGUMENT with every problem at once, or nil.
func validate(problems ...[]*violation) error {
	all := slices.Concat(problems...)
	if len(all) == 0 {
		return nil
	}
	message := fmt.Sprintf("%s %s", all[0].GetField(), all[0].GetDescription())
	if len(all) > 1 {
		message += fmt.Sprintf(" (and %d more)", len(all)-1)
	}
	return with(status.New(codes.InvalidArgument, message), &errdetails.BadRequest{FieldViolations: all[:min(maxProblems, len(all))]})
}

func keyProblems(key string) []*violation { return required("idempotency_key", key) }

func required(field, value string) []*violation {
	if value == "" || len(value) > maxName {
		return []*violation{{Field: field, Description: fmt.Sprintf("has %d bytes, want 1 to %d", len(value), maxName)}}
	}
	if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		return []*violation{{Field: field, Description: "must be UTF-8 without control characters"}}
	}
	return nil
}

func inRange(field string, n, most int64) []*violation {
	if n < 1 || n > most {
		return []*violation{{Field: field, Description: fmt.Sprintf("is %d, want 1 to %d", n, most)}}
	}
	return nil
}

func transferProblems(prefix string, r *api.ProcessPaymentRequest) []*violation {
	list := slices.Concat(
		required(prefix+"from_account", r.GetFromAccount()),
		required(prefix+"to_account", r.GetToAccount()),
		inRange(prefix+"amount", r.GetAmount(), maxAmount),
	)
	if r.GetFromAccount() != "" && r.GetFromAccount() == r.GetToAccount() {
		list = append(list, &violation{Field: prefix + "to_account", Description: "is the same as from_account"})
	}
	if !currencyCode.MatchString(r.GetCurrency()) {
		list = append(list, &violation{Field: prefix + "currency", Description: fmt.Sprintf("is %.10q, want three upper-case letters", r.GetCurrency())})
	}
	return list
}
