package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/drain-agent/drain-agent/app/api"
	"github.com/drain-agent/drain-agent/scripts/freeport"
)

// service is the real payment service, one process with one ledger.
type service struct {
	binary   string
	addr     string
	payments api.PaymentServiceClient
}

func startService(ctx context.Context, dir string) (*service, error) {
	binary := filepath.Join(dir, "app")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/drain-agent/drain-agent/app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the service: %w\n%s", err, out)
	}
	ports, err := freeport.Find(2)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, binary, "serve", "--host=127.0.0.1", fmt.Sprintf("--port=%d", ports[0]), fmt.Sprintf("--mgmt-port=%d", ports[1]),
		"--store=sqlite:"+filepath.Join(dir, "ledger"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the service: %w", err)
	}
	s := &service{binary: binary, addr: fmt.Sprintf("127.0.0.1:%d", ports[0])}
	conn, err := grpc.NewClient("passthrough:"+s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	s.payments = api.NewPaymentServiceClient(conn)
	return s, until(ctx, 30*time.Second, func() error {
		_, err := s.payments.AuditKeys(ctx, &api.AuditKeysRequest{IdempotencyKeys: []string{"none"}})
		return err
	})
}

func listen(ctx context.Context) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
}

const chaosHeader = "x-chaos-test"

// replica is a pod of the service as its clients see it: it counts what reaches it, and answers 503 while it is broken.
// Before a client's proxy it stands for an app that sets the chaos header.
type replica struct {
	addr   string
	served atomic.Int64
	broken atomic.Bool
	chaos  bool
}

func startReplica(ctx context.Context, backend string, chaos bool) (*replica, error) {
	socket, err := listen(ctx)
	if err != nil {
		return nil, err
	}
	plain := new(http.Protocols)
	plain.SetUnencryptedHTTP2(true)
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: backend})
	forward.Transport = &http.Transport{Protocols: plain}
	r := &replica{addr: socket.Addr().String(), chaos: chaos}
	server := &http.Server{Protocols: plain, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.served.Add(1)
		if r.broken.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if r.chaos {
			req.Header.Set(chaosHeader, "true")
		}
		forward.ServeHTTP(w, req)
	})}
	go func() { _ = server.Serve(socket) }()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return r, nil
}
