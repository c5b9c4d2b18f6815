package pod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Mode says how far pods are kept apart.
type Mode int

// How far pods are kept apart.
const (
	Auto       Mode = iota // Namespaces where the machine allows them, else Ports
	Namespaces             // network, mount, PID and host name namespaces; needs root on Linux
	Ports                  // processes on the machine's loopback; declared ports and mount paths are rewritten in arguments and environment
)

// Options say how to run a pod. The zero value works for manifests whose commands are on PATH.
type Options struct {
	Images     map[string]string            // image to program on this machine; the program stands for the image's only one, whatever command[0] names
	ConfigMaps map[string]map[string]string // contents of the ConfigMaps and Secrets the pod mounts: name, file, text
	Volumes    map[string]string            // volume name to a directory of this machine, for kinds not known here
	Grace      *time.Duration               // grace of [Pod.Delete] where the call names none; nil is the manifest's
	Dir        string                       // where logs and volumes are kept; empty is a temporary folder, removed in the end
	Output     io.Writer                    // gets the containers' output, each line with the container's name; nil drops it
	Isolate    Mode
	OnEvent    func(Event)   // called in order for every event, under a lock: be quick, call nothing of the pod
	Relist     time.Duration // how often exits are noticed; 0 is kubelet's second
	BackOff    time.Duration // first pause before a second restart; 0 is kubelet's 10 s
}

// Pod is a running pod. Its methods may be called from any goroutine.
type Pod struct {
	manifest   *corev1.Pod
	options    Options
	sandbox    *sandbox // nil in mode Ports
	ip         netip.Addr
	ports      map[int]int // declared to real, mode Ports
	dir        string
	volumes    map[string]string
	containers []*container // init containers, then regular ones, in spec order
	hooks      *http.Client
	born       time.Time

	wake    chan struct{}   // something for the worker to look at; capacity 1
	deleted chan struct{}   // closed by the first Delete
	done    chan struct{}   // closed when the pod is finished
	life    context.Context // ends when the pod is finished or everything is to be killed
	kill    context.CancelFunc

	mu          sync.Mutex
	events      []Event
	changed     chan struct{} // closed and replaced by every event
	grace       time.Duration // of the deletion
	deleting    bool
	terminating bool
	initialised bool
	ready       bool
}

// Start runs a pod and returns once its sandbox exists; containers are started in the background in kubelet's order.
// The end of ctx kills everything at once. It fails when the manifest uses what is not known here (all of it named in
// one error) and when the sandbox cannot be made.
func Start(ctx context.Context, manifest *corev1.Pod, options Options) (*Pod, error) {
	if strings.HasPrefix(os.Args[0], helperPrefix) {
		return nil, errors.New("start pod: this program did not call pod.Helper first in main or TestMain")
	}
	p := &Pod{
		manifest: manifest.DeepCopy(), options: options, born: time.Now(), changed: make(chan struct{}),
		wake: make(chan struct{}, 1), deleted: make(chan struct{}), done: make(chan struct{}),
	}
	setDefaults(p.manifest, &p.options)
	if err := validate(p.manifest, p.options); err != nil {
		return nil, fmt.Errorf("start pod %s: %w", manifest.Name, err)
	}
	if err := p.prepare(); err != nil {
		p.cleanUp()
		return nil, fmt.Errorf("start pod %s: %w", manifest.Name, err)
	}
	p.life, p.kill = context.WithCancel(ctx)
	go p.work(p.life)
	return p, nil
}

// prepare makes what the containers need before the first of them starts.
func (p *Pod) prepare() error {
	p.dir = p.options.Dir
	if p.dir == "" {
		dir, err := os.MkdirTemp("", "podsim-")
		if err != nil {
			return err
		}
		p.dir = dir
	}
	if err := p.isolate(); err != nil {
		return err
	}
	p.hooks = hookClient()
	for i := range p.manifest.Spec.InitContainers {
		p.containers = append(p.containers, newContainer(&p.manifest.Spec.InitContainers[i], true, i))
	}
	for i := range p.manifest.Spec.Containers {
		p.containers = append(p.containers, newContainer(&p.manifest.Spec.Containers[i], false, i))
	}
	return p.makeVolumes()
}

// isolate makes the sandbox, or maps the ports where no sandbox is possible or wished.
func (p *Pod) isolate() error {
	if p.options.Isolate != Ports {
		box, err := newSandbox(p.manifest.Name)
		if err == nil {
			p.sandbox, p.ip = box, box.ip
			return nil
		}
		if p.options.Isolate == Namespaces {
			return err
		}
		p.record("", NotIsolated, err.Error())
	}
	p.ip = netip.MustParseAddr("127.0.0.1")
	return p.mapPorts()
}

func (p *Pod) cleanUp() {
	if p.sandbox != nil {
		p.sandbox.close()
	}
	if p.hooks != nil {
		p.hooks.CloseIdleConnections()
	}
	if p.options.Dir == "" && p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}

// IP returns the pod's address: reachable from this process, and what hooks and probes go to.
func (p *Pod) IP() netip.Addr { return p.ip }

// Port returns the port to dial at [Pod.IP] for a port of the manifest: the same, except in mode [Ports].
func (p *Pod) Port(declared int) int {
	if real, ok := p.ports[declared]; ok {
		return real
	}
	return declared
}

// Isolated reports whether the pod runs in namespaces of its own.
func (p *Pod) Isolated() bool { return p.sandbox != nil }

// Ready reports whether every regular container and native sidecar runs and is ready.
func (p *Pod) Ready() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ready
}

// WaitReady waits until the pod is ready. It fails when the pod ends first or ctx does, and then says what kept each container.
func (p *Pod) WaitReady(ctx context.Context) error {
	return p.explain(p.WaitFor(ctx, "ready", func([]Event) bool { return p.ready }))
}

// WaitFor waits until the condition holds for the timeline; it is asked after every event and must not call the pod.
// It fails when ctx ends or the pod is finished and it still does not hold; what names it in the error.
func (p *Pod) WaitFor(ctx context.Context, what string, holds func([]Event) bool) error {
	for {
		p.mu.Lock()
		ok, changed := holds(p.events), p.changed
		p.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-p.done:
			return fmt.Errorf("wait for pod %s (%s): it is finished", p.manifest.Name, what)
		case <-ctx.Done():
			return fmt.Errorf("wait for pod %s (%s): %w", p.manifest.Name, what, ctx.Err())
		}
	}
}

// Delete asks for the pod's deletion and returns at once. A nil grace is that of the options, else the manifest's;
// kubelet counts whole seconds and makes it at least one. A deletion during a container's restart waits behind it;
// a second deletion changes nothing, as kubelet does not interrupt a hook for a shorter grace.
func (p *Pod) Delete(grace *time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deleting {
		return
	}
	p.deleting = true
	p.grace = p.manifestGrace()
	if p.options.Grace != nil {
		p.grace = *p.options.Grace
	}
	if grace != nil {
		p.grace = *grace
	}
	p.grace = max(p.grace.Truncate(time.Second), time.Second)
	p.addLocked(Event{Kind: Deleted, Detail: fmt.Sprintf("grace %v", p.grace)})
	close(p.deleted)
}

// Wait waits until the pod is finished; only the end of ctx makes it fail.
func (p *Pod) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for pod %s to finish: %w", p.manifest.Name, ctx.Err())
	}
}

// Close kills everything at once and waits for the end.
func (p *Pod) Close() {
	p.kill()
	<-p.done
}

func (p *Pod) manifestGrace() time.Duration {
	return time.Duration(*p.manifest.Spec.TerminationGracePeriodSeconds) * time.Second
}

// find returns the named container, nil if there is none.
func (p *Pod) find(name string) *container {
	for _, c := range p.containers {
		if c.spec.Name == name {
			return c
		}
	}
	return nil
}

// running returns the container's process, nil when it does not run.
func (p *Pod) running(name string) *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.find(name); c != nil && c.state == running {
		return c.proc
	}
	return nil
}

// Restart does what a liveness failure does: hook, SIGTERM, SIGKILL after the grace, start again. It returns at once;
// restarts are made one at a time.
func (p *Pod) Restart(container string) {
	p.condemn(p.find(container), "restart asked for", nil)
}

// Signal sends a signal to the container's process. It fails when that does not run.
func (p *Pod) Signal(container string, sig os.Signal) error {
	proc := p.running(container)
	if proc == nil {
		return fmt.Errorf("signal container %s: it does not run", container)
	}
	return proc.cmd.Process.Signal(sig)
}

// Kill sends SIGKILL to the container's process, as an out-of-memory kill would.
func (p *Pod) Kill(container string) error { return p.Signal(container, syscall.SIGKILL) }

// Pid returns the container's process id as this process sees it, 0 when it does not run.
func (p *Pod) Pid(container string) int {
	if proc := p.running(container); proc != nil {
		return proc.cmd.Process.Pid
	}
	return 0
}

// Log returns what the container has written to both outputs, over all its restarts.
func (p *Pod) Log(container string) []byte {
	if c := p.find(container); c != nil {
		return c.log.bytes()
	}
	return nil
}

// TerminationMessage returns what the container's last ended process left in its termination log.
func (p *Pod) TerminationMessage(container string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.find(container); c != nil {
		return c.message
	}
	return ""
}

// ExitCode returns the exit code of the container's last ended process (128 + n after signal n), -1 when none ended.
func (p *Pod) ExitCode(container string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.find(container); c != nil {
		return c.exitCode
	}
	return -1
}

func (p *Pod) path(parts ...string) string {
	return filepath.Join(append([]string{p.dir}, parts...)...)
}
