package pod

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// maxBody is how much of a hook's or probe's answer kubelet reads, in bytes.
const maxBody = 10 << 10

func preStop(c *container) *corev1.LifecycleHandler {
	if c.spec.Lifecycle == nil {
		return nil
	}
	return c.spec.Lifecycle.PreStop
}

// awaitHook runs the preStop hook and returns how long it was waited for, at most the grace. A hook that takes longer goes on.
func (p *Pod) awaitHook(c *container, proc *process, grace, lag time.Duration) time.Duration {
	start := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(lag)
		_ = p.runHook(c, proc, "preStop", preStop(c)) // failures are recorded and change nothing
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		p.record(c.spec.Name, HookAbandoned, "preStop")
	}
	return time.Since(start)
}

// runHook runs a hook to its end, recording call and answer.
func (p *Pod) runHook(c *container, proc *process, name string, hook *corev1.LifecycleHandler) error {
	var detail string
	var err error
	switch {
	case hook.HTTPGet != nil:
		var target *http.Request
		if target, err = p.request(context.Background(), c, hook.HTTPGet, "kube-lifecycle/1.34"); err != nil {
			break
		}
		p.record(c.spec.Name, HookCalled, fmt.Sprintf("%s GET %s", name, target.URL))
		detail, err = p.callHook(target)
	case hook.Exec != nil:
		p.record(c.spec.Name, HookCalled, fmt.Sprintf("%s %s", name, strings.Join(hook.Exec.Command, " ")))
		_, err = p.execute(context.Background(), c, proc, hook.Exec.Command)
	case hook.Sleep != nil:
		p.record(c.spec.Name, HookCalled, fmt.Sprintf("%s sleep %d s", name, hook.Sleep.Seconds))
		select {
		case <-time.After(time.Duration(hook.Sleep.Seconds) * time.Second):
		case <-p.done:
		}
	default:
		err = errors.New("no handler that kubelet runs (httpGet, exec, sleep)")
	}
	if err != nil {
		p.record(c.spec.Name, HookFailed, fmt.Sprintf("%s: %v", name, err))
		return err
	}
	p.record(c.spec.Name, HookAnswered, strings.TrimSpace(name+" "+detail))
	return nil
}

// callHook sends the request; every status is a success, and only a short body is read.
func (p *Pod) callHook(req *http.Request) (status string, err error) {
	resp, err := p.hooks.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.ContentLength <= maxBody {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody))
	}
	return strconv.Itoa(resp.StatusCode), nil
}

// hookClient has no timeout, keeps connections, trusts every certificate and stops at a redirect to another host.
func hookClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // as kubelet
		CheckRedirect: sameHost,
	}
}

func sameHost(req *http.Request, via []*http.Request) error {
	if req.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}

// request makes the request of a hook or probe; it goes to the pod's address unless the action names a host.
func (p *Pod) request(ctx context.Context, c *container, action *corev1.HTTPGetAction, agent string) (*http.Request, error) {
	port, err := p.resolve(c, action.Port)
	if err != nil {
		return nil, err
	}
	host := action.Host
	if host == "" {
		host = p.ip.String()
	}
	target, err := url.Parse(action.Path)
	if err != nil {
		target = &url.URL{Path: action.Path}
	}
	target.Scheme = strings.ToLower(string(action.Scheme))
	if target.Scheme == "" {
		target.Scheme = "http"
	}
	target.Host = net.JoinHostPort(host, strconv.Itoa(port))
	if !strings.HasPrefix(target.Path, "/") {
		target.Path = "/" + target.Path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", agent)
	req.Header.Set("Accept", "*/*")
	for _, header := range action.HTTPHeaders {
		if strings.EqualFold(header.Name, "Host") {
			req.Host = header.Value
			continue
		}
		req.Header.Add(header.Name, header.Value)
	}
	return req, nil
}

// resolve finds a port by number, or by a name among the container's own ports.
func (p *Pod) resolve(c *container, port intstr.IntOrString) (int, error) {
	if port.Type == intstr.Int {
		return p.Port(port.IntValue()), nil
	}
	for _, declared := range c.spec.Ports {
		if declared.Name == port.StrVal {
			return p.Port(int(declared.ContainerPort)), nil
		}
	}
	if n, err := strconv.Atoi(port.StrVal); err == nil {
		return p.Port(n), nil
	}
	return 0, fmt.Errorf("container %s has no port named %q", c.spec.Name, port.StrVal)
}
