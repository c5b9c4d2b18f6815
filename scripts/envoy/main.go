// Command envoy prints the path of an Envoy binary for tests and experiments, installing it first where needed.
//
//	go run ./scripts/envoy [path] [-version 1.39.3]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/drain-agent/drain-agent/scripts/envoy/envoybin"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "envoy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "path" {
		args = args[1:]
	}
	flags := flag.NewFlagSet("envoy", flag.ExitOnError)
	version := flags.String("version", "", "release to find; empty takes $ENVOY or PATH as it is, else installs "+envoybin.DefaultVersion)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("read arguments: %q is not expected; say -version V", flags.Arg(0))
	}
	path, err := envoybin.Path(ctx, *version)
	if err != nil {
		return err
	}
	fmt.Println(path)
	return nil
}
