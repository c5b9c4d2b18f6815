package payments

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/drain-agent/drain-agent/app/internal/store"
)

// The table of the documentation is the one that is used.
func TestOutcomesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../../docs/explanation/payments.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	want.WriteString("| Cause | gRPC code | RetryInfo | Effect |\n|---|---|---|---|\n")
	for _, o := range table() {
		fmt.Fprintf(&want, "| %s | %s | %s | %s |\n", o.cause, o.code, map[bool]string{true: "yes", false: "no"}[o.retry], o.effect)
	}
	if !strings.Contains(string(page), want.String()) {
		t.Errorf("docs/explanation/payments.md does not have this table:\n%s", want.String())
	}
}

// Every cause gets the code and the advice of its row; the caller's own deadline comes before all that passes.
func TestOutcomesAreAnswered(t *testing.T) {
	s := &Service{}
	for _, o := range append(outcomes, outcomeOf(nil)) {
		cause := o.is
		if cause == nil {
			cause = errors.New("nobody thought of it")
		}
		err := s.answer(t.Context(), "pay", fmt.Errorf("around: %w: %w", cause, context.DeadlineExceeded))
		advice := false
		for _, d := range status.Convert(err).Details() {
			_, advice = d.(*errdetails.RetryInfo)
		}
		if status.Code(err) != o.code || advice != o.retry {
			t.Errorf("%s: %v, advice %v", o.cause, err, advice)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.answer(gone, "pay", store.ErrUnavailable); status.Code(err) != codes.Canceled {
		t.Errorf("the caller hung up: %v", err)
	}
}
