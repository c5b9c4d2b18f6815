package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/drain-agent/drain-agent/scripts/e2e"
)

var errNoNode = errors.New("no node")

// rollout measures rollouts on a real kubelet, from the repository's root. The table judges its own target: when that is
// missed there are figures and an error.
func (*bench) rollout(ctx context.Context) ([]figure, error) {
	said, err := exec.CommandContext(ctx, "scripts/cluster/cluster", "check").CombinedOutput()
	if _, refused := errors.AsType[*exec.ExitError](err); refused && ctx.Err() == nil {
		return nil, fmt.Errorf("%w: %s", errNoNode, oneLine(string(said)))
	}
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(os.Stderr) // what the child says begins a line
	var printed bytes.Buffer
	run := exec.CommandContext(ctx, "scripts/e2e/run", "--table")
	run.Stdout, run.Stderr = io.MultiWriter(&printed, os.Stderr), os.Stderr
	run.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that an interrupt reaches all of it, once, and it takes the node down
	run.Cancel = func() error { return syscall.Kill(-run.Process.Pid, syscall.SIGTERM) }
	run.WaitDelay = 2 * time.Minute
	if err = run.Run(); err != nil {
		err = fmt.Errorf("%s: %w, its last lines say why", run, err)
	}
	rows, unread := e2e.ParseRows(printed.String())
	return rolloutFigures(rows), errors.Join(err, unread)
}

// rolloutFigures turns the rows of the table into two figures a shape, drain-agent first.
func rolloutFigures(rows []e2e.Row) (all []figure) {
	for _, shape := range []string{e2e.Native, e2e.Classic} {
		failed := figure{Name: "rollout under load, " + shape + ": failed requests", Unit: "per 100,000"}
		stops := figure{Name: "rollout under load, " + shape + ": stop of a pod", Unit: "s"}
		for _, pod := range []string{e2e.DrainAgent, e2e.Nothing, e2e.Sleep5, e2e.Sleep15} {
			for _, r := range rows {
				if r.Shape != shape || r.Pod != pod {
					continue
				}
				if pod == e2e.DrainAgent { // without its row the goals would stand beside another
					failed.Goal, stops.Goal = "0", "< "+e2e.Sleep15
				}
				failed.Rows = append(failed.Rows, row{pod, r.FailedPer})
				stops.Rows = append(stops.Rows, row{pod, r.Stops})
			}
		}
		if len(failed.Rows) > 0 {
			all = append(all, failed, stops)
		}
	}
	return all
}

func oneLine(text string) string { return strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ") }
