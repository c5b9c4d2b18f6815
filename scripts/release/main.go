// Command release builds all that a release consists of, from a commit, for a version: programs, images, bills of
// materials, provenance, checksums, notes. The same commit gives the same bytes wherever it lies, with the same release of
// Go. `sign` signs it with a key pair, `push` hands the images to a registry.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type cli struct {
	Build buildCmd `cmd:"" help:"Build everything into a folder."`
	Sign  signCmd  `cmd:"" help:"Sign what build made, with a key pair, without a transparency log."`
	Push  pushCmd  `cmd:"" help:"Push the images, and print the reference of each with its digest."`
}

func main() {
	var c cli
	parsed := kong.Parse(&c)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	if err := parsed.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}
