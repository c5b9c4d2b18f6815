package pod

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// execute runs a command in a running container, as exec hooks and probes do, and returns its output.
func (p *Pod) execute(ctx context.Context, c *container, proc *process, command []string) ([]byte, error) {
	select {
	case <-proc.exited:
		return nil, errors.New("the container does not run")
	default:
	}
	env, err := environment(p.manifest, p.ip.String(), *c.spec)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(p.life, cancel)
	defer stop()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, time.Second
	if p.sandbox != nil {
		env["PATH"] = imageBin + ":" + env["PATH"]
		user, group := identity(p.manifest, c)
		job := job{Argv: command, Env: list(env), Dir: c.spec.WorkingDir, User: user, Group: group}
		err = p.sandbox.join(job, proc.cmd.Process.Pid, cmd)
	} else {
		err = p.startPlain(c, cmd, command, env)
	}
	if err != nil {
		return nil, err
	}
	err = cmd.Wait()
	return out.Bytes(), err
}

// startPlain starts the command in mode Ports; the container's own program is recognised by its name.
func (p *Pod) startPlain(c *container, cmd *exec.Cmd, command []string, env map[string]string) error {
	plain, err := p.plainCommand(c, p.ownProgram(c, command[0]), append([]string(nil), command...), env)
	if err != nil {
		return err
	}
	cmd.Path, cmd.Args, cmd.Env, cmd.Dir, cmd.Err = plain.Path, plain.Args, plain.Env, plain.Dir, nil
	return p.startProcess(cmd)
}

func (p *Pod) ownProgram(c *container, name string) string {
	program, mapped := p.options.Images[c.spec.Image]
	if !mapped {
		return ""
	}
	own := filepath.Base(program)
	if len(c.spec.Command) > 0 {
		own = filepath.Base(c.spec.Command[0])
	}
	if filepath.Base(name) != own {
		return ""
	}
	return program
}

// identity returns the user and group of a container, nil for this process's.
func identity(pod *corev1.Pod, c *container) (user, group *int64) {
	if s := pod.Spec.SecurityContext; s != nil {
		user, group = s.RunAsUser, s.RunAsGroup
	}
	if s := c.spec.SecurityContext; s != nil {
		if s.RunAsUser != nil {
			user = s.RunAsUser
		}
		if s.RunAsGroup != nil {
			group = s.RunAsGroup
		}
	}
	return user, group
}

func (p *Pod) sharesProcesses() bool {
	share := p.manifest.Spec.ShareProcessNamespace
	return share != nil && *share
}
