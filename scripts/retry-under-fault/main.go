// Command retry-under-fault shows which form of fault injection is retried. The resources of istio/ are translated into the
// configuration of real Envoys, payments are sent through them, and what Envoy, the client and the ledger counted is printed.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	n := flag.Int("payments", 400, "payments per experiment")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, *n); err != nil {
		fmt.Fprintln(os.Stderr, err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func run(ctx context.Context, out io.Writer, n int) error {
	m, err := startMesh(ctx)
	if err != nil {
		return err
	}
	defer m.close()
	r, err := m.measure(ctx, n)
	if err != nil {
		return err
	}
	r.print(out)
	return nil
}
