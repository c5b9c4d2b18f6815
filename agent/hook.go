package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"sync"

	"github.com/drain-agent/drain-agent/agent/secret"
)

type hookCmd struct {
	socketFlag
	HTTP    string   `name:"http" default:"http://127.0.0.1:9909" help:"Called where the socket cannot be opened, as by another user outside the agent's group. Empty: not."`
	After   bool     `help:"Run COMMAND once the agent has let the container go, not meanwhile: for what stops the process."`
	Name    string   `arg:"" help:"The container whose hook this is: app, proxy, agent, ..."`
	Command []string `arg:"" optional:"" help:"After --: the hook that the container had. It is run too, and its failure is the hook's."`
}

// Run blocks until the agent has answered and the command has ended. Without an agent nothing is gained by failing: kubelet would
// stop the container all the same.
func (h *hookCmd) Run(out output) error {
	var command error
	var beside sync.WaitGroup
	run := func() { command = h.run(out) }
	if !h.After {
		beside.Go(run)
	}
	answer, err := h.ask()
	if h.After {
		run()
	}
	beside.Wait()
	if err != nil {
		fmt.Fprintf(out.stderr, "drain-agent: %s; the container stops without a drain\n", secret.HideText(err.Error()))
		return command
	}
	_, err = fmt.Fprintln(out.stdout, answer)
	return errors.Join(command, err)
}

// ask returns the agent's answer.
func (h *hookCmd) ask() (string, error) {
	ctx := context.Background() // the agent answers before its deadline
	answer, err := h.client().Hook(ctx, h.Name)
	if err == nil {
		text, err := json.Marshal(answer)
		return string(text), err
	}
	if h.HTTP == "" {
		return "", err
	}
	status, second := probeHTTP(ctx, h.HTTP+"/prestop/"+url.PathEscape(h.Name))
	if second != nil {
		return "", errors.Join(err, second)
	}
	return status, nil
}

func (h *hookCmd) run(out output) error {
	if len(h.Command) == 0 {
		return nil
	}
	command := exec.CommandContext(context.Background(), h.Command[0], h.Command[1:]...) //nolint:gosec // the pod's own hook, from its manifest
	command.Stdout, command.Stderr = out.stdout, out.stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("run %s: %w", h.Command[0], err) // its arguments may hold a secret
	}
	return nil
}
