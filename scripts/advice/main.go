// Command advice holds what `drainctl advise` says against what pods then do: it records stops of pods with random work, a real Envoy and
// the agent's real binary in each, asks advise about other settings, and really stops other pods under those. A held-out stop is inside
// when its time, or what its clients lost, lies between the bounds that advise printed.
//
//	go run ./scripts/advice
//	go run ./scripts/advice --judge docs/images/advice.jsonl.gz   # of the stops kept there, today's advise
//
// The exit status is 1 when less than nine of ten held-out stops of a setting are inside, or a grace period does not hold its share.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
	"github.com/drain-agent/drain-agent/scripts/machine"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

type flags struct {
	Recorded int    `default:"100" help:"Stops of each kind of work that advise reads."`
	Unseen   int    `default:"12" help:"Held-out stops of each kind under each setting."`
	Cut      int    `default:"30" help:"Stops of long requests under a grace period that is too short for many of them."`
	Graced   int    `default:"15" help:"Held-out stops of each kind that have a grace period which advise is sure of."`
	Parallel int    `default:"14" help:"How many pods run at a time."`
	From     uint64 `default:"1" help:"The first seed."`
	Raw      string `type:"path" placeholder:"FILE" help:"Also write every stop there, gzipped, a line of JSON for each."`
	Judge    string `type:"existingfile" placeholder:"FILE" help:"Stop no pods: judge those that --raw wrote there."`
	Page     string `type:"path" placeholder:"FILE" help:"Also write a page there."`
	Virtual  string `type:"path" placeholder:"FILE" help:"For the page: what TestGracePeriodHoldsItsShare wrote with -table."`
}

func main() {
	pod.Helper()
	var f flags
	kong.Parse(&f, kong.Name("advice"), kong.Description("What drainctl advise predicts of recorded stops, against stops that it has not seen."))
	ctx, end := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, f)
	end()
	if err != nil {
		fmt.Fprintln(os.Stderr, "advice:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) error {
	dir, err := os.MkdirTemp("", "advice-") // short: a Unix socket's path has 107 bytes
	if err != nil {
		return fmt.Errorf("make a folder for the pods: %w", err)
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(os.Stderr, "set-up: building drainctl, the app and the agent, finding Envoy (a minute the first time)")
	advise, err := newAdviser(ctx, dir)
	if err != nil {
		return err
	}
	kept := experiment{When: time.Now().UTC().Format(time.DateOnly), Machine: machine.Name() + ", load average " + machine.Load() + " before"}
	if f.Judge != "" {
		kept, err = readRaw(f.Judge)
	} else {
		err = kept.play(ctx, advise, dir, f)
	}
	if ctx.Err() != nil {
		return errors.New("interrupted; all pods are gone")
	}
	if err != nil {
		return err
	}
	if f.Raw != "" {
		if err := kept.writeRaw(f.Raw); err != nil {
			return err
		}
	}
	judged, err := judge(ctx, advise, kept.Stops)
	if err != nil {
		return err
	}
	judged.write(os.Stdout)
	if f.Page != "" {
		if err := writePage(f, &kept, judged); err != nil {
			return err
		}
	}
	return judged.wrong()
}

// play records stops, and then stops other pods under the settings that advise is asked about.
func (e *experiment) play(ctx context.Context, advise *adviser, dir string, f flags) error {
	built, err := demopod.Build(ctx, dir, pod.Namespaces)
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	s, err := newStage(ctx, built, dir)
	if err != nil {
		return err
	}
	defer s.close()
	e.Stops = s.stops(ctx, plan(f), f.Parallel)
	if f.Graced > 0 && ctx.Err() == nil {
		more, err := gracedTasks(ctx, advise, e.Stops, f)
		if err != nil {
			return err
		}
		e.Stops = append(e.Stops, s.stops(ctx, more, f.Parallel)...)
	}
	e.Load = machine.Load()
	return ctx.Err()
}
