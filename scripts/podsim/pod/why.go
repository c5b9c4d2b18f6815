package pod

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Patience is how long a pod may take to become ready before whoever waits is told what keeps it.
const Patience = 25 * time.Second

// WaitUp waits until the pod is ready, for no longer than [Patience]. It gives up earlier when the program of a container could
// not be run twice. The error says what kept each container.
func (p *Pod) WaitUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	hopeless := false
	err := p.WaitFor(ctx, "ready", func(events []Event) bool {
		hopeless = !p.ready && p.hopeless(events)
		return p.ready || hopeless
	})
	if hopeless {
		err = fmt.Errorf("start pod %s: a container cannot be started", p.manifest.Name)
	}
	return p.explain(err)
}

// hopeless reports whether a container was tried to start twice and never ran.
func (p *Pod) hopeless(events []Event) bool {
	tries := map[string]int{}
	for _, e := range events {
		switch e.Kind {
		case StartFailed, ImageMissing:
			tries[e.Container]++
		case Started:
			delete(tries, e.Container)
		default:
		}
	}
	for _, n := range tries {
		if n > 1 {
			return true
		}
	}
	return false
}

// explain adds what keeps the pod from being ready to an error.
func (p *Pod) explain(err error) error {
	if err == nil {
		return nil
	}
	if why := p.Why(); why != "" {
		return fmt.Errorf("%w\n%s", err, why)
	}
	return err
}

// Why says what keeps the pod from being ready: for each container that is not, what went wrong last and the last lines of
// its log. It is empty for a ready pod.
func (p *Pod) Why() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ready {
		return ""
	}
	var all strings.Builder
	for _, c := range p.containers {
		if c.fine() {
			continue
		}
		fmt.Fprintf(&all, "  %s: %s\n", c.spec.Name, p.trouble(c))
		for _, line := range lastLines(c.log.bytes(), 3) {
			fmt.Fprintf(&all, "    | %s\n", line)
		}
	}
	return strings.TrimSuffix(all.String(), "\n")
}

// fine reports whether nothing waits for the container. The pod's mutex is held.
func (c *container) fine() bool {
	if c.init && !c.sidecar {
		return c.state == exited && c.exitCode == 0
	}
	return c.state == running && c.started && c.ready
}

// trouble names the last thing that went wrong with a container. The mutex is held.
func (p *Pod) trouble(c *container) string {
	wrong := []Kind{StartFailed, ImageMissing, HookFailed, Unhealthy, Exited}
	for _, e := range slices.Backward(p.events) {
		if e.Container != c.spec.Name || !slices.Contains(wrong, e.Kind) {
			continue
		}
		if e.Kind == Exited {
			return fmt.Sprintf("it ended with code %d", e.Code)
		}
		return string(e.Kind) + ": " + e.Detail
	}
	if c.state == waiting {
		return "not started yet"
	}
	return "runs, and is not ready yet"
}

// lastLines returns the last n lines of a log, each cut to what a person reads.
func lastLines(log []byte, n int) []string {
	var lines []string
	for line := range bytes.Lines(log[max(0, len(log)-4096):]) {
		if text := strings.TrimSpace(string(line)); text != "" {
			lines = append(lines, text[:min(len(text), 300)])
		}
	}
	return lines[max(0, len(lines)-n):]
}

// WhyShared says why the pod has no namespaces of its own in mode [Auto]; it is empty where it has them.
func (p *Pod) WhyShared() string {
	for _, e := range p.Events() {
		if e.Kind == NotIsolated {
			return e.Detail
		}
	}
	return ""
}
