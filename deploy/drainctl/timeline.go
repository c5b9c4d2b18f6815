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
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/rollout"
)

// source is where timelines are read from.
type source struct {
	files              []string
	selector           string
	pods               []string
	namespace, context string
	kubectl            string
	container          string
	follow             bool
	width              int
	ascii              bool
	output             string
}

func timelineCommand() *cobra.Command {
	var s source
	cmd := &cobra.Command{
		Use:   "timeline [FILE|-]...",
		Short: "Draw drains from the agent's log",
		Long: `Reads the agents' logs from files, standard input, or the cluster (kubectl logs), passes over every line that is not theirs, and
draws each drain; with several drains a table over the rollout follows. A pod's log goes with the pod: follow it (-f) while it stops,
or read from where logs are collected.`,
		Example: "  kubectl logs web-1 -c drain-agent | drainctl timeline\n  drainctl timeline -f -l app=web\n  drainctl timeline -o html logs/*.jsonl > rollout.html",
		RunE: func(cmd *cobra.Command, args []string) error {
			s.files = args
			return s.run(cmd)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&s.selector, "selector", "l", "", "read the pods with these labels, through kubectl")
	fl.StringArrayVarP(&s.pods, "pod", "p", nil, "read this pod, through kubectl (repeatable)")
	fl.StringVarP(&s.namespace, "namespace", "n", "", "namespace of the pods")
	fl.StringVar(&s.context, "context", "", "kubectl context")
	fl.StringVar(&s.kubectl, "kubectl", "kubectl", "kubectl to call")
	fl.StringVarP(&s.container, "container", "c", inject.AgentContainer, "container of the agent")
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
	}
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	unread := s.read(ctx, reader, cmd.InOrStdin())
	drains := reader.Drains()
	switch {
	case len(drains) == 0 && unread != nil:
		return unread
	case len(drains) == 0:
		return errors.New("no line of a drain in these logs: the agent writes them when a pod stops (--log-format=json)")
	}
	if s.follow && s.output == "text" {
		write = rollout.Table
	}
	return errors.Join(write(out, drains), unread) // a pod that is gone does not hide the others
}

func (s *source) read(ctx context.Context, reader *rollout.Reader, stdin io.Reader) error {
	if s.selector != "" || len(s.pods) > 0 {
		if len(s.files) > 0 {
			return errors.New("files and pods at once: name files, or say --selector or --pod")
		}
		return s.readCluster(ctx, reader)
	}
	if len(s.files) == 0 {
		s.files = []string{"-"}
	}
	for _, name := range s.files {
		if name == "-" {
			if err := reader.Read("stdin", stdin); err != nil {
				return fmt.Errorf("read standard input: %w", err)
			}
			continue
		}
		if err := readLog(reader, name); err != nil {
			return err
		}
	}
	return nil
}

func readLog(reader *rollout.Reader, name string) error {
	log, err := os.Open(name)
	if err != nil {
		return err
	}
	defer log.Close()
	if err := reader.Read(strings.TrimSuffix(filepath.Base(name), filepath.Ext(name)), log); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// readCluster runs kubectl logs, once for the selector and once for each pod, all at the same time. What kubectl complains of
// is part of the error.
func (s *source) readCluster(ctx context.Context, reader *rollout.Reader) error {
	targets := [][]string{}
	if s.selector != "" {
		targets = append(targets, []string{"--selector=" + s.selector, "--max-log-requests=200"})
	}
	for _, pod := range s.pods {
		targets = append(targets, []string{"pod/" + strings.TrimPrefix(pod, "pod/")})
	}
	var running sync.WaitGroup
	errs := make([]error, len(targets))
	for i, target := range targets {
		args := append([]string{"logs", "--prefix", "--tail=-1", "--container=" + s.container, "--follow=" + strconv.FormatBool(s.follow)}, target...)
		if s.namespace != "" {
			args = append(args, "--namespace="+s.namespace)
		}
		if s.context != "" {
			args = append(args, "--context="+s.context)
		}
		running.Go(func() { errs[i] = s.kubectlLogs(ctx, reader, args) })
	}
	running.Wait()
	return errors.Join(errs...)
}

func (s *source) kubectlLogs(ctx context.Context, reader *rollout.Reader, args []string) error {
	kubectl := exec.CommandContext(ctx, s.kubectl, args...)
	var said strings.Builder
	kubectl.Stderr = &said
	lines, err := kubectl.StdoutPipe()
	if err == nil {
		err = kubectl.Start()
	}
	if err != nil {
		return err
	}
	err = reader.Read("pod", lines)
	if ended := kubectl.Wait(); ended != nil {
		err = fmt.Errorf("%s %s: %w: %s", s.kubectl, strings.Join(args, " "), ended, strings.TrimSpace(said.String()))
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
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{"drains": drains, "rollout": rollout.Summarise(drains)})
}
