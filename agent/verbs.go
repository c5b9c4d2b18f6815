package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/drain-agent/drain-agent/agent/internal/envoy"
	"github.com/drain-agent/drain-agent/agent/internal/server"
)

// socketFlag says where the running agent is.
type socketFlag struct {
	Control string `default:"/run/drain-agent/control.sock" help:"Control socket of the running agent."`
}

func (s socketFlag) client() *server.Client { return server.NewClient(s.Control) }

type operate struct {
	socketFlag
	Reason string `help:"Why; it stands in the timeline and in the verdict."`
}

func (o *operate) run(verb string, out output) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	said, err := o.client().Operate(ctx, verb, o.Reason)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out.stdout, said)
	return err
}

type (
	drainCmd   struct{ operate }
	undrainCmd struct{ operate }
	finishCmd  struct{ operate }
)

// Run takes the pod out of service.
func (o *drainCmd) Run(out output) error { return o.run("drain", out) }

// Run puts it back.
func (o *undrainCmd) Run(out output) error { return o.run("undrain", out) }

// Run ends a drain under way.
func (o *finishCmd) Run(out output) error { return o.run("finish", out) }

type installCmd struct {
	Dir string `arg:"" help:"Directory shared with the other containers."`
}

// Run copies this binary; a reader sees the whole file or none.
func (i *installCmd) Run(out output) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this binary: %v", err)
	}
	from, err := os.Open(self)
	if err != nil {
		return fmt.Errorf("read this binary: %v", err)
	}
	defer from.Close()
	temp, err := os.CreateTemp(i.Dir, ".drain-agent-*")
	if err != nil {
		return fmt.Errorf("install into %s: %v", i.Dir, err)
	}
	defer os.Remove(temp.Name())
	_, err = io.Copy(temp, from)
	to := filepath.Join(i.Dir, "drain-agent")
	if err = errors.Join(err, temp.Chmod(0o755), temp.Close()); err == nil {
		err = os.Rename(temp.Name(), to)
	}
	if err != nil {
		return fmt.Errorf("install into %s: %v", i.Dir, err)
	}
	_, err = fmt.Fprintln(out.stdout, to)
	return err
}

type waitCmd struct {
	EnvoyAdmin string        `default:"http://127.0.0.1:15000" help:"Envoy's admin: http://HOST:PORT or unix:///PATH."`
	Timeout    time.Duration `default:"60s" help:"Give up after this."`
}

// Run returns when Envoy says that it is ready.
func (w *waitCmd) Run() error {
	admin, err := envoy.New(w.EnvoyAdmin)
	if err != nil {
		return err
	}
	defer admin.Close()
	ctx, cancel := context.WithTimeout(context.Background(), w.Timeout)
	defer cancel()
	retry := time.NewTicker(100 * time.Millisecond)
	defer retry.Stop()
	why := errors.New("no answer yet")
	for {
		asking, done := context.WithTimeout(ctx, time.Second)
		ok, err := admin.Ready(asking)
		done()
		if ok {
			return nil
		}
		if ctx.Err() == nil { // else it was not given the time to answer
			why = cmp.Or(err, errors.New("it answers that it is not"))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for envoy at %s: not ready within %v: %w", w.EnvoyAdmin, w.Timeout, why)
		case <-retry.C:
		}
	}
}

type probeCmd struct {
	Target  string        `arg:"" optional:"" help:"URL of an HTTP probe, HOST:PORT of a gRPC health service, or tcp://HOST:PORT, which only has to be open."`
	Addr    string        `help:"The same as HOST:PORT, as grpc_health_probe has it."`
	Service string        `help:"gRPC service name."`
	Header  []string      `sep:"none" help:"NAME: VALUE that an HTTP probe sends (repeatable)."`
	Timeout time.Duration `default:"1s" help:"Give up after this."`
}

// Run asks once.
func (p *probeCmd) Run(out output) error {
	ctx, cancel := context.WithTimeout(context.Background(), p.Timeout)
	defer cancel()
	target := p.Target
	if target == "" {
		target = p.Addr
	}
	if target == "" {
		return errors.New("probe what? Give a URL or HOST:PORT")
	}
	answer, err := "", error(nil)
	switch port, isTCP := strings.CutPrefix(target, "tcp://"); {
	case isTCP:
		answer, err = probeTCP(ctx, port)
	case strings.HasPrefix(target, "http://"), strings.HasPrefix(target, "https://"):
		answer, err = probeHTTP(ctx, target, p.Header...)
	default:
		answer, err = probeGRPC(ctx, target, p.Service)
	}
	if err != nil {
		return fmt.Errorf("probe %s: %v", target, err)
	}
	_, err = fmt.Fprintln(out.stdout, answer)
	return err
}

func probeTCP(ctx context.Context, addr string) (string, error) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return "", errors.New("write tcp://HOST:PORT")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	return "open", conn.Close()
}

// likeKubelet asks as kubelet's probes do: it looks at no certificate, and follows redirects on the same host only.
var likeKubelet = http.Client{
	Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // a probe gives away nothing
	CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if req.URL.Hostname() != via[0].URL.Hostname() || len(via) >= 10 {
			return http.ErrUseLastResponse
		}
		return nil
	},
}

func probeHTTP(ctx context.Context, url string, headers ...string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	for _, header := range headers {
		name, value, ok := strings.Cut(header, ":")
		if !ok {
			return "", errors.New("a header is written NAME: VALUE") // nor shown: it may be a secret
		}
		if value = strings.TrimSpace(value); strings.EqualFold(name, "Host") {
			req.Host = value
		} else {
			req.Header.Add(name, value)
		}
	}
	reply, err := likeKubelet.Do(req)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	if reply.StatusCode < 200 || reply.StatusCode > 399 { // as kubelet judges
		return "", errors.New(reply.Status)
	}
	return reply.Status, nil
}

func probeGRPC(ctx context.Context, addr, service string) (string, error) {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	reply, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		return "", err
	}
	if reply.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return "", errors.New(reply.GetStatus().String())
	}
	return reply.GetStatus().String(), nil
}
