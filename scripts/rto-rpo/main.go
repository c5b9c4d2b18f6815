// Command rto-rpo takes the payment service away and gives it back, and measures what that cost: the time until every
// replica was ready again (RTO), and how much of what had been acknowledged was gone (RPO).
//
//	go run ./scripts/rto-rpo [-on cluster|podsim] [-rto 900s] [-rpo 0s] [-replicas 3]
//
// On podsim it needs nothing. On a cluster it uses the deployment payment-service of -namespace, which it creates from
// manifests/ when it is not there; the image ghcr.io/drain-agent/drain-agent-app:v0.1.0-dev must be loaded (scripts/e2e/images app).
// The exit status is 1 when a target was missed, 2 when it could not be measured.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// place is where the service runs.
type place interface {
	// scale returns when the service has n ready replicas and no other.
	scale(ctx context.Context, n int) error
	// call sends a request to the service's data port and returns the answer's body, or an error unless it was a 200.
	call(ctx context.Context, path, body string) ([]byte, error)
	close()
}

type settings struct {
	on, namespace, kubectl string
	rto, rpo, load         time.Duration
	replicas               int
}

func main() {
	pod.Helper()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s := settings{}
	flag.StringVar(&s.on, "on", "podsim", "cluster or podsim")
	flag.StringVar(&s.namespace, "namespace", "rto-rpo", "of the deployment, on a cluster")
	flag.StringVar(&s.kubectl, "kubectl", "scripts/cluster/cluster kubectl", "command to reach the cluster with")
	flag.DurationVar(&s.rto, "rto", 900*time.Second, "longest time to restore the service")
	flag.DurationVar(&s.rpo, "rpo", 0, "longest time whose payments may be lost")
	flag.DurationVar(&s.load, "load", 5*time.Second, "how long to pay before the service is taken away")
	flag.IntVar(&s.replicas, "replicas", 3, "of the service")
	flag.Parse()
	os.Exit(run(ctx, s))
}

func run(ctx context.Context, s settings) int {
	p, err := open(ctx, s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "rto-rpo:", err)
		return 2
	}
	defer p.close()
	r, err := measure(ctx, p, s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "rto-rpo:", err)
		return 2
	}
	fmt.Printf("outage: %.1f s between the last payment before and the first one after\n", r.outage.Seconds())
	ok := verdict("RTO", r.restore, s.rto, "from scaling up to all replicas ready")
	ok = verdict("RPO", r.lostSpan, s.rpo, fmt.Sprintf("%d of %d acknowledged payments are gone", r.lost, r.acknowledged)) && ok
	if !ok {
		return 1
	}
	return 0
}

func open(ctx context.Context, s settings) (place, error) {
	switch s.on {
	case "cluster":
		return onCluster(ctx, s)
	case "podsim":
		return onPodsim(ctx)
	default:
		return nil, fmt.Errorf("-on is %q, want cluster or podsim", s.on)
	}
}

func verdict(name string, got, target time.Duration, how string) bool {
	word := "met"
	if got > target {
		word = "EXCEEDED"
	}
	fmt.Printf("%s: %.1f s (%s), target %.0f s: %s\n", name, got.Seconds(), how, target.Seconds(), word)
	return got <= target
}

// result is what an outage cost.
type result struct {
	restore            time.Duration // from the order to scale up until all replicas are ready
	outage             time.Duration // between the last payment before and the first one after
	acknowledged, lost int
	lostSpan           time.Duration // from the oldest lost payment to the last acknowledged one; 0 when none is lost
}

// payment is one that was acknowledged.
type payment struct {
	id string
	at time.Time
}

// measure pays one after the other while the service is scaled to nothing, scales it up again, and looks for every
// payment that was acknowledged.
func measure(ctx context.Context, p place, s settings) (r result, err error) {
	if err := p.scale(ctx, s.replicas); err != nil {
		return r, fmt.Errorf("start the service: %w", err)
	}
	paying, stop := context.WithCancel(ctx)
	defer stop()
	var acked []payment
	var payer sync.WaitGroup
	payer.Go(func() { acked = pay(paying, p, "before") })
	if err := pause(ctx, s.load); err != nil {
		return r, err
	}
	if err := p.scale(ctx, 0); err != nil {
		return r, fmt.Errorf("take the service away: %w", err)
	}
	stop()
	payer.Wait()
	if len(acked) == 0 {
		return r, errors.New("no payment was acknowledged, there is nothing to measure by")
	}
	began := time.Now()
	if err := p.scale(ctx, s.replicas); err != nil {
		return r, fmt.Errorf("bring the service back: %w", err)
	}
	r.restore = time.Since(began)
	first, err := payOnce(ctx, p, "after")
	if err != nil {
		return r, fmt.Errorf("pay after the outage, though all replicas are ready: %w", err)
	}
	last := acked[len(acked)-1].at
	r.outage, r.acknowledged = first.at.Sub(last), len(acked)
	for _, a := range acked {
		if _, err := p.call(ctx, "/v1/payments/"+a.id, ""); err != nil {
			if r.lost == 0 {
				r.lostSpan = max(last.Sub(a.at), time.Millisecond)
				fmt.Fprintf(os.Stderr, "rto-rpo: the first lost payment, %s: %v\n", a.id, err)
			}
			r.lost++
		}
	}
	return r, nil
}

// pay makes one payment after the other until ctx ends; those that fail are tried again under the same key.
func pay(ctx context.Context, p place, prefix string) (acked []payment) {
	for ctx.Err() == nil {
		if a, err := payOnce(ctx, p, fmt.Sprintf("%s-%d", prefix, len(acked))); err == nil {
			acked = append(acked, a)
		}
		_ = pause(ctx, 20*time.Millisecond)
	}
	return acked
}

func payOnce(ctx context.Context, p place, key string) (payment, error) {
	body := fmt.Sprintf(`{"idempotency_key":"rto-rpo-%d-%s","from_account":"acct-0000","to_account":"acct-0001","amount":1,"currency":"USD"}`, os.Getpid(), key)
	answer, err := p.call(ctx, "/v1/payments", body)
	if err != nil {
		return payment{}, err
	}
	var made struct {
		ID string `json:"payment_id"`
	}
	if err := json.Unmarshal(answer, &made); err != nil || made.ID == "" {
		return payment{}, fmt.Errorf("read the answer %q: %w", answer, err)
	}
	return payment{made.ID, time.Now()}, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
