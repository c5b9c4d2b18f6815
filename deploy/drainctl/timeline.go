package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/rollout"
	"github.com/drain-agent/drain-agent/deploy/internal/inject"
)

// source is where timelines are read from, and how they are written.
type source struct {
	selector, namespace string
	pods, files, more   []string // more are arguments for kubectl
	follow, ascii       bool
	width               int
	output              string
}

func timelineCommand() *cobra.Command {
	var s source
	cmd := &cobra.Command{
		Use:   "timeline [FILE|-]... [-- KUBECTL-ARGUMENT...]",
		Short: "Draw drains from the agent's log",
		Long: `Reads the agents' logs from files, standard input, or the cluster (kubectl logs), passes over every line that is not theirs, and
draws each drain; with several drains a table over the rollout follows. A pod's log goes with the pod: follow it (-f) while it stops,
or read from where logs are collected: the files of Docker, containerd and CRI-O, logcli (default, raw and jsonl) and Loki's API,
Elasticsearch's hits and _source, Google Cloud's jsonPayload and textPayload, in any order and mixed. Lines that look like an agent's
and cannot be read are counted on standard error. What stands behind -- is for kubectl.`,
		Example: "  kubectl logs web-1 -c drain-agent | drainctl timeline\n  drainctl timeline -f -l app=web\n  drainctl timeline -f -p web-1 -- --context=production\n  drainctl timeline -o html logs/*.jsonl > rollout.html\n  logcli query '{container=\"drain-agent\"}' --since=1h -o jsonl | drainctl timeline -o table",
		RunE: func(cmd *cobra.Command, args []string) error {
			s.files = args
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				s.files, s.more = args[:at], args[at:]
			}
			return s.run(cmd)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&s.selector, "selector", "l", "", "read the pods with these labels, through kubectl")
	fl.StringArrayVarP(&s.pods, "pod", "p", nil, "read this pod, through kubectl (repeatable)")
	fl.StringVarP(&s.namespace, "namespace", "n", "", "namespace of the pods")
	fl.BoolVarP(&s.follow, "follow", "f", false, "follow the logs: every event as it comes, a drawing with each verdict")
	fl.StringVarP(&s.output, "output", "o", "text", "text (drawings and table), table, json or html (one page that needs nothing else)")
	fl.IntVar(&s.width, "width", 100, "columns of a drawing")
	fl.BoolVar(&s.ascii, "ascii", false, "draw with plain ASCII")
	return cmd
}

func (s *source) run(cmd *cobra.Command) error {
	write, ok := map[string]func(io.Writer, []*rollout.Drain) error{
		"text": s.draw, "table": rollout.Table, "json": writeJSON, "html": rollout.Page,
	}[s.output]
	if !ok {
		return fmt.Errorf("--output=%s: write text, table, json or html", s.output)
	}
	out := cmd.OutOrStdout()
	reader := &rollout.Reader{}
	if s.follow {
		reader.Line = func(pod string, line timeline.Line) { fmt.Fprintf(out, "%s %s\n", pod, line.Text()) }
		reader.Done = func(d *rollout.Drain) { _ = s.drawOne(out, d) } // a terminal that is gone ends the command by SIGPIPE
		if s.output == "text" {
			write = rollout.Table
		}
	}
	unread := s.read(cmd.Context(), reader, cmd.InOrStdin())
	drains, passed := reader.Drains(), reader.Passed()
	if passed.Broken > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "drainctl: %d lines look like an agent's and cannot be read: cut off, or changed by a collector\n", passed.Broken)
	}
	if len(drains) > 0 {
		return errors.Join(write(out, drains), unread) // a pod that is gone does not hide the others
	}
	if unread == nil {
		unread = fmt.Errorf("no line of a drain in these logs (%d lines of other programs, %d that cannot be read): the agent writes them when a pod stops (--log-format=json)",
			passed.Others, passed.Broken)
	}
	return unread
}

func (s *source) read(ctx context.Context, reader *rollout.Reader, stdin io.Reader) error {
	switch cluster := s.selector != "" || len(s.pods) > 0; {
	case cluster && len(s.files) > 0:
		return errors.New("files and pods at once: name files, or say --selector or --pod")
	case cluster:
		return s.readCluster(ctx, reader)
	case len(s.files) == 0:
		s.files = []string{"-"}
	}
	for _, name := range s.files {
		log, pod := stdin, "stdin"
		if name != "-" {
			file, err := os.Open(name)
			if err != nil {
				return err
			}
			defer file.Close()
			log, pod = file, strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
		}
		if err := reader.Read(pod, log); err != nil {
			return fmt.Errorf("read %s: %w", pod, err)
		}
	}
	return nil
}

// readCluster runs kubectl logs, once for the selector and once for each pod, all at the same time.
func (s *source) readCluster(ctx context.Context, reader *rollout.Reader) error {
	var targets [][]string
	if s.selector != "" {
		targets = append(targets, []string{"--selector=" + s.selector, "--max-log-requests=200"})
	}
	for _, pod := range s.pods {
		targets = append(targets, []string{"pod/" + strings.TrimPrefix(pod, "pod/")})
	}
	all := []string{"logs", "--prefix", "--tail=-1", "--container=" + inject.AgentContainer, "--follow=" + strconv.FormatBool(s.follow)}
	if s.namespace != "" {
		all = append(all, "--namespace="+s.namespace)
	}
	var running sync.WaitGroup
	errs := make([]error, len(targets))
	for i, target := range targets {
		running.Go(func() { errs[i] = kubectl(ctx, reader, slices.Concat(all, target, s.more)) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// kubectl reads what kubectl prints. What it complains of is part of the error.
func kubectl(ctx context.Context, reader *rollout.Reader, args []string) error {
	cmd := exec.CommandContext(ctx, "kubectl", args...)
	var said strings.Builder
	cmd.Stderr = &said
	lines, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	err = reader.Read("pod", lines)
	if ended := cmd.Wait(); ended != nil {
		err = fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), ended, strings.TrimSpace(said.String()))
	}
	return err
}

func (s *source) drawOne(w io.Writer, d *rollout.Drain) error {
	fmt.Fprintf(w, "pod %s\n", d.Pod)
	if err := (timeline.Style{ASCII: s.ascii}).Draw(w, d.Events, d.Verdict, s.width); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

func (s *source) draw(w io.Writer, drains []*rollout.Drain) error {
	for _, d := range drains {
		if err := s.drawOne(w, d); err != nil {
			return err
		}
	}
	if len(drains) == 1 {
		return nil
	}
	return rollout.Table(w, drains)
}

func writeJSON(w io.Writer, drains []*rollout.Drain) error {
	return encodeJSON(w, map[string]any{"drains": drains, "rollout": rollout.Summarise(drains)})
}

func encodeJSON(w io.Writer, value any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}
