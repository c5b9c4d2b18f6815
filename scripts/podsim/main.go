// Command podsim runs the containers of a Pod manifest as local processes and stops them as kubelet does.
//
//	go run ./scripts/podsim -f pod.yaml [-image app:1=./bin/app]... [-delete-after 10s] [-grace 5s] [-json]
//
// Ctrl-C deletes the pod, a second one kills it. The timeline goes to standard output, the containers' output to
// standard error.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

func main() {
	pod.Helper()
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "podsim:", err)
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	file        string
	images      pairs
	deleteAfter time.Duration
	grace       time.Duration
	dir         string
	json        bool
	ports       bool
}

type pairs map[string]string

func (p pairs) String() string { return "" }

func (p pairs) Set(text string) error {
	image, program, ok := strings.Cut(text, "=")
	if !ok {
		return errors.New("want IMAGE=PROGRAM")
	}
	p[image] = program
	return nil
}

func parse(args []string) (settings, error) {
	s := settings{images: pairs{}}
	flags := flag.NewFlagSet("podsim", flag.ContinueOnError)
	flags.StringVar(&s.file, "f", "", "file with a Pod or a Deployment, and its ConfigMaps")
	flags.Var(s.images, "image", "IMAGE=PROGRAM, repeatable: the program that stands for an image")
	flags.DurationVar(&s.deleteAfter, "delete-after", 0, "delete the pod this long after it became ready; 0 is on Ctrl-C")
	flags.DurationVar(&s.grace, "grace", 0, "as kubectl delete --grace-period; 0 is the manifest's")
	flags.StringVar(&s.dir, "dir", "", "keep logs and volumes in this folder")
	flags.BoolVar(&s.json, "json", false, "print the timeline as JSON lines")
	flags.BoolVar(&s.ports, "map-ports", false, "use no namespaces, as where they are not allowed")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if s.file == "" || flags.NArg() > 0 {
		return s, errors.New("read arguments: want -f FILE and flags only; -h lists them")
	}
	return s, nil
}

func run(args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	manifest, configs, err := pod.Load(s.file)
	if err != nil {
		return err
	}
	options := pod.Options{
		Images: s.images, ConfigMaps: configs, Dir: s.dir, Output: os.Stderr, OnEvent: printer(s.json),
	}
	if s.ports {
		options.Isolate = pod.Ports
	}
	if s.grace != 0 {
		options.Grace = &s.grace
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	p, err := pod.Start(context.Background(), manifest, options)
	if err != nil {
		return err
	}
	go func() {
		<-signals
		p.Delete(nil)
		<-signals
		p.Close()
	}()
	time.AfterFunc(pod.Patience, func() {
		if why := p.Why(); why != "" && !slices.ContainsFunc(p.Events(), readyOrDeleted) {
			fmt.Fprintf(os.Stderr, "podsim: not ready after %v:\n%s\n", pod.Patience, why)
		}
	})
	if s.deleteAfter > 0 && p.WaitReady(context.Background()) == nil {
		time.AfterFunc(s.deleteAfter, func() { p.Delete(nil) })
	}
	return p.Wait(context.Background())
}

func readyOrDeleted(e pod.Event) bool { return e.Kind == pod.PodReady || e.Kind == pod.Deleted }

func printer(asJSON bool) func(pod.Event) {
	if !asJSON {
		return func(e pod.Event) { fmt.Println(e) }
	}
	lines := json.NewEncoder(os.Stdout)
	return func(e pod.Event) { _ = lines.Encode(e) }
}
