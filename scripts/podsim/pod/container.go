package pod

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

type state int

const (
	waiting state = iota
	running
	exited
)

// container is one container of the pod over all its restarts. The pod's mutex guards the fields from state on.
type container struct {
	spec    *corev1.Container
	init    bool
	sidecar bool // an init container that restarts always
	order   int  // position among the init containers, or among the regular ones
	log     output

	state     state
	proc      *process // the last process started
	started   bool     // its startup probe succeeded, or it has none
	ready     bool
	condemned *condemnation
	exitCode  int
	endedAt   time.Time
	restarts  int
	nextStart time.Time
	message   string
}

// condemnation is a stop of one container in a pod that lives on.
type condemnation struct {
	cause string
	grace time.Duration
}

// process is one start of a container.
type process struct {
	cmd    *exec.Cmd
	log    io.Closer
	exited chan struct{} // closed once the end is recorded
}

func newContainer(spec *corev1.Container, init bool, order int) *container {
	sidecar := init && spec.RestartPolicy != nil && *spec.RestartPolicy == corev1.ContainerRestartPolicyAlways
	return &container{spec: spec, init: init, sidecar: sidecar, order: order, exitCode: -1}
}

var errImageMissing = errors.New("no such program")

// start starts the container's process, runs its postStart hook and begins to probe. Failures are recorded and retried later.
func (p *Pod) start(c *container) {
	proc, err := p.launch(c)
	if err != nil {
		kind := StartFailed
		if errors.Is(err, errImageMissing) {
			kind = ImageMissing
		}
		p.postpone(c)
		p.record(c.spec.Name, kind, err.Error())
		return
	}
	p.mu.Lock()
	c.state, c.proc, c.ready, c.condemned = running, proc, false, nil
	c.started = false
	p.addLocked(Event{Container: c.spec.Name, Kind: Started, Detail: fmt.Sprintf("pid %d", proc.cmd.Process.Pid)})
	p.mu.Unlock()
	go p.reap(c, proc)

	if c.spec.Lifecycle != nil && c.spec.Lifecycle.PostStart != nil {
		if p.runHook(c, proc, "postStart", c.spec.Lifecycle.PostStart) != nil {
			p.killContainer(c, "postStart hook failed", p.manifestGrace(), nil, 0)
			return
		}
	}
	p.startProbes(c, proc)
}

// launch puts the command together and starts it, in the sandbox if there is one.
func (p *Pod) launch(c *container) (*process, error) {
	if err := p.resetMessage(c); err != nil {
		return nil, err
	}
	cmd, err := p.command(c)
	if err != nil {
		return nil, err
	}
	logfile, err := os.OpenFile(p.path(c.spec.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	sinks := []io.Writer{&c.log, logfile}
	if p.options.Output != nil {
		sinks = append(sinks, &prefixer{name: c.spec.Name, to: p.options.Output})
	}
	sink := io.MultiWriter(sinks...)
	cmd.Stdout, cmd.Stderr = sink, sink
	cmd.WaitDelay = time.Second // a grandchild that keeps the pipe open does not keep the container alive
	if err := p.startProcess(cmd); err != nil {
		logfile.Close()
		return nil, err
	}
	return &process{cmd: cmd, log: logfile, exited: make(chan struct{})}, nil
}

// command returns the container's command as it is to run on this machine.
func (p *Pod) command(c *container) (*exec.Cmd, error) {
	env, err := environment(p.manifest, p.ip.String(), *c.spec)
	if err != nil {
		return nil, err
	}
	argv := append(expandAll(c.spec.Command, env), expandAll(c.spec.Args, env)...)
	program, mapped := p.options.Images[c.spec.Image]
	if mapped {
		if len(c.spec.Command) == 0 {
			argv = append([]string{filepath.Base(program)}, argv...)
		}
		if program, err = exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("image %s: %w (%v)", c.spec.Image, errImageMissing, err)
		}
		if program, err = filepath.Abs(program); err != nil {
			return nil, err
		}
	} else if len(c.spec.Command) == 0 {
		return nil, fmt.Errorf("image %s: %w: it is not in Options.Images and the container has no command", c.spec.Image, errImageMissing)
	}
	if p.sandbox != nil {
		return p.sandbox.command(p, c, program, argv, env)
	}
	return p.plainCommand(c, program, argv, env)
}

// plainCommand is the command in mode Ports.
func (p *Pod) plainCommand(c *container, program string, argv []string, env map[string]string) (*exec.Cmd, error) {
	for i := range argv {
		argv[i] = p.rewrite(c, argv[i])
	}
	if program == "" {
		program = argv[0]
	}
	cmd := exec.CommandContext(context.Background(), program, argv[1:]...) // it ends as a container does: by signals
	if cmd.Err != nil && !errors.Is(cmd.Err, exec.ErrDot) {
		return nil, fmt.Errorf("image %s: %w (%v)", c.spec.Image, errImageMissing, cmd.Err)
	}
	cmd.Env = list(env)
	for i := range cmd.Env {
		cmd.Env[i] = p.rewrite(c, cmd.Env[i])
	}
	cmd.Dir = c.spec.WorkingDir
	return cmd, nil
}

func list(env map[string]string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

// reap waits for the process's end and records it.
func (p *Pod) reap(c *container, proc *process) {
	_ = proc.cmd.Wait() // ProcessState has the result
	proc.log.Close()
	message := p.readMessage(c)
	status, _ := proc.cmd.ProcessState.Sys().(syscall.WaitStatus)
	code := status.ExitStatus()
	if status.Signaled() {
		code = 128 + int(status.Signal())
	}
	p.mu.Lock()
	c.state, c.ready, c.started = exited, false, false
	c.exitCode, c.endedAt, c.message = code, time.Now(), message
	p.addLocked(Event{Container: c.spec.Name, Kind: Exited, Code: code})
	p.judgeReady()
	p.mu.Unlock()
	close(proc.exited)
}

// postpone sets when a failed start is tried again.
func (p *Pod) postpone(c *container) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.restarts++
	c.nextStart = time.Now().Add(p.pause(c.restarts))
}

const maxBackOff = 5 * time.Minute

// pause is kubelet's back-off before the n-th restart counted from 1.
func (p *Pod) pause(n int) time.Duration {
	return min(p.options.BackOff<<min(n-1, 10), maxBackOff)
}

// output keeps what containers write while others read it.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.buf.Bytes())
}

// prefixer writes whole lines, each with the container's name.
type prefixer struct {
	name string
	to   io.Writer
	rest []byte
}

func (w *prefixer) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		line, rest, found := bytes.Cut(w.rest, []byte("\n"))
		if !found {
			return len(b), nil
		}
		w.rest = rest
		if _, err := fmt.Fprintf(w.to, "[%s] %s\n", w.name, line); err != nil && !errors.Is(err, fs.ErrClosed) {
			return len(b), err
		}
	}
}
