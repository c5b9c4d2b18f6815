package pod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
)

// startProbes probes one start of a container. Without a startup probe it is started at once, without a readiness probe ready.
func (p *Pod) startProbes(c *container, proc *process) {
	if c.spec.StartupProbe == nil {
		p.setStarted(c, proc)
		return
	}
	go p.probe(c, proc, "startup", c.spec.StartupProbe, func(ok bool) bool {
		if ok {
			p.setStarted(c, proc)
		} else {
			p.condemn(c, "startup probe failed", c.spec.StartupProbe.TerminationGracePeriodSeconds)
		}
		return false
	})
}

// setStarted lets later containers start and the other two probes begin.
func (p *Pod) setStarted(c *container, proc *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.proc != proc || c.state != running {
		return
	}
	c.started = true
	c.ready = c.spec.ReadinessProbe == nil
	p.judgeReady()
	p.nudge()
	if c.spec.LivenessProbe != nil {
		go p.probe(c, proc, "liveness", c.spec.LivenessProbe, func(ok bool) bool {
			if !ok {
				p.condemn(c, "liveness probe failed", c.spec.LivenessProbe.TerminationGracePeriodSeconds)
			}
			return true
		})
	}
	if c.spec.ReadinessProbe != nil {
		go p.probe(c, proc, "readiness", c.spec.ReadinessProbe, func(ok bool) bool {
			p.setReady(c, proc, ok)
			return true
		})
	}
}

func (p *Pod) setReady(c *container, proc *process, ready bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.proc == proc && c.state == running {
		c.ready = ready
		p.judgeReady()
	}
}

// probe asks once per period and calls verdict whenever the threshold of successes or failures is reached, for as long
// as verdict wants. It ends with the process, except in a terminating pod: there it goes on to the pod's end, but for
// the liveness and startup of regular containers, which kubelet stops first.
func (p *Pod) probe(c *container, proc *process, kind string, spec *corev1.Probe, verdict func(ok bool) bool) {
	if !p.pauseProbe(c, proc, kind, time.Duration(spec.InitialDelaySeconds)*time.Second) {
		return
	}
	var last, told, known bool
	run := int32(0)
	for {
		err := p.probeOnce(c, proc, spec)
		if ok := err == nil; run > 0 && ok == last {
			run++
		} else {
			last, run = ok, 1
		}
		if err != nil {
			p.record(c.spec.Name, Unhealthy, fmt.Sprintf("%s: %v", kind, err))
		}
		if last && run >= spec.SuccessThreshold || !last && run >= spec.FailureThreshold {
			if !known || told != last {
				p.record(c.spec.Name, Probed, fmt.Sprintf("%s %s", kind, map[bool]string{true: "succeeds", false: "fails"}[last]))
			}
			told, known = last, true
			if !verdict(last) {
				return
			}
		}
		if !p.pauseProbe(c, proc, kind, time.Duration(spec.PeriodSeconds)*time.Second) {
			return
		}
	}
}

// pauseProbe waits and reports whether to probe on.
func (p *Pod) pauseProbe(c *container, proc *process, kind string, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	gone := proc.exited
	for {
		select {
		case <-timer.C:
			return kind == "readiness" || c.init || !p.isTerminating()
		case <-p.done:
			return false
		case <-gone:
			if !p.isTerminating() {
				return false
			}
			gone = nil
		}
	}
}

func (p *Pod) isTerminating() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.terminating
}

// probeOnce returns nil when the probe succeeds.
func (p *Pod) probeOnce(c *container, proc *process, spec *corev1.Probe) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(spec.TimeoutSeconds)*time.Second)
	defer cancel()
	switch {
	case spec.HTTPGet != nil:
		return p.probeHTTP(ctx, c, spec.HTTPGet)
	case spec.TCPSocket != nil:
		port, err := p.resolve(c, spec.TCPSocket.Port)
		if err != nil {
			return err
		}
		return probeTCP(ctx, net.JoinHostPort(p.ip.String(), strconv.Itoa(port)))
	case spec.GRPC != nil:
		service := ""
		if spec.GRPC.Service != nil {
			service = *spec.GRPC.Service
		}
		return probeGRPC(ctx, net.JoinHostPort(p.ip.String(), strconv.Itoa(p.Port(int(spec.GRPC.Port)))), service)
	case spec.Exec != nil:
		out, err := p.execute(ctx, c, proc, spec.Exec.Command)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	return errors.New("no handler")
}

// probeHTTP uses a connection of its own, as kubelet does, and takes 200 to 399 as success.
func (p *Pod) probeHTTP(ctx context.Context, c *container, action *corev1.HTTPGetAction) error {
	req, err := p.request(ctx, c, action, "kube-probe/1.34")
	if err != nil {
		return err
	}
	client := hookClient()
	client.Transport.(*http.Transport).DisableKeepAlives = true
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("HTTP status %d: %.200s", resp.StatusCode, body)
	}
	return nil
}

func probeTCP(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func probeGRPC(ctx context.Context, address, service string) error {
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("kube-probe/1.34"))
	if err != nil {
		return err
	}
	defer conn.Close()
	reply, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	if reply.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("gRPC health: %s", reply.GetStatus())
	}
	return nil
}
