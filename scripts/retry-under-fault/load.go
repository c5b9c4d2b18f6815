package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/drain-agent/drain-agent/app/api"
	"github.com/drain-agent/drain-agent/scripts/cached"
)

const ghzVersion = "v0.121.0"

// driver calls the service with ghz, which sends every call once.
type driver struct{ binary, dir string }

func newDriver(ctx context.Context, dir string) (d driver, err error) {
	if d.binary, err = cached.GoProgram(ctx, "github.com/bojand/ghz/cmd/ghz", ghzVersion); err != nil {
		return d, err
	}
	d.dir = dir
	text, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(api.File_demo_proto)}})
	if err != nil {
		return d, err
	}
	return d, os.WriteFile(filepath.Join(dir, "demo.protoset"), text, 0o600)
}

// call makes n calls, atOnce at a time, taking the requests in turn, and returns how many did not end with OK.
func (d driver) call(ctx context.Context, addr, method string, requests any, chaos bool, n, atOnce int) (failed int, err error) {
	text, err := json.Marshal(requests)
	if err != nil {
		return 0, err
	}
	data, headers := filepath.Join(d.dir, "requests.json"), "{}"
	if err := os.WriteFile(data, text, 0o600); err != nil {
		return 0, err
	}
	if chaos {
		headers = fmt.Sprintf(`{%q: "true"}`, chaosHeader)
	}
	cmd := exec.CommandContext(ctx, d.binary, "--insecure", "--protoset="+filepath.Join(d.dir, "demo.protoset"), "--call=demo.v1.PaymentService."+method,
		"--data-file="+data, "--metadata="+headers, fmt.Sprintf("--total=%d", n), fmt.Sprintf("--concurrency=%d", min(n, atOnce)),
		"--timeout=15s", "--format=json", addr)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("run ghz: %w", err)
	}
	var report struct {
		Count int            `json:"count"`
		Codes map[string]int `json:"statusCodeDistribution"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return 0, fmt.Errorf("read ghz's report: %w", err)
	}
	if report.Count != n {
		return 0, fmt.Errorf("ghz sent %d calls, want %d", report.Count, n)
	}
	return n - report.Codes["OK"], nil
}

// payments is what a client sent and what became of it.
type payments struct {
	sent, failed int
	keys         []string // of all, failed ones too: a payment whose answer was lost may have been made
}

// pay sends n payments, each once and with a key of its own. With chaos they carry the header x-chaos-test.
func (d driver) pay(ctx context.Context, addr string, n int, chaos bool) (out payments, err error) {
	run := rand.Text()
	var requests []*api.ProcessPaymentRequest
	for i := range n {
		request := &api.ProcessPaymentRequest{
			IdempotencyKey: fmt.Sprintf("%s-%d", run, i), FromAccount: fmt.Sprintf("acct-%04d", i%100), ToAccount: fmt.Sprintf("acct-%04d", (i+1)%100), Amount: 1, Currency: "USD",
		}
		requests, out.keys = append(requests, request), append(out.keys, request.GetIdempotencyKey())
	}
	out.sent = n
	out.failed, err = d.call(ctx, addr, "ProcessPayment", requests, chaos, n, 8)
	return out, err
}

// flood asks n cheap questions, thirty-two at a time. Refusals are not errors.
func (d driver) flood(ctx context.Context, addr string, n int) error {
	_, err := d.call(ctx, addr, "AuditKeys", &api.AuditKeysRequest{IdempotencyKeys: []string{"none"}}, false, n, 32)
	return err
}

// customer runs the payment client of the service itself, without its retries, for ten seconds. It checks the ledger.
func (s *service) customer(ctx context.Context, addr string) (f form, err error) {
	cmd := exec.CommandContext(ctx, s.binary, "client", "--target="+addr, "--rate=30", "--duration=10s", "--output=json")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var report struct {
		Sent   int64 `json:"sent"`
		OK     int64 `json:"ok"`
		Ledger struct {
			Checked bool `json:"checked"`
			Lost    int  `json:"lost"`
			Doubled int  `json:"doubled"`
		} `json:"ledger"`
	}
	if decodeErr := json.Unmarshal(out, &report); decodeErr != nil {
		return f, fmt.Errorf("run the payment client: %w", errors.Join(err, decodeErr))
	}
	if !report.Ledger.Checked || report.Ledger.Lost > 0 {
		return f, fmt.Errorf("run the payment client: ledger checked %v, %d payments lost", report.Ledger.Checked, report.Ledger.Lost)
	}
	return form{sent: report.Sent, failed: report.Sent - report.OK, made: int(report.OK), doubled: report.Ledger.Doubled}, nil
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
