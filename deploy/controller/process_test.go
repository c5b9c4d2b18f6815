package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/drain-agent/drain-agent/scripts/synced"
)

// controller runs drain-controller as its ServiceAccount, in a process of its own, behind its Service, until the test ends. It
// returns when it is ready.
func (s *server) controller(t testing.TB, flags ...string) *running {
	t.Helper()
	listen := freePort(t)
	s.route(t, listen)
	return s.replica(t, listen, flags...)
}

// replica is one that the Service does not lead to.
func (s *server) replica(t testing.TB, listen int, flags ...string) *running {
	t.Helper()
	health, folder := fmt.Sprintf("127.0.0.1:%d", freePort(t)), t.TempDir()
	kubeconfig := filepath.Join(folder, "kubeconfig")
	if err := os.WriteFile(kubeconfig, s.own, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{folder: folder, port: listen}
	r.process = exec.CommandContext(ctx, cmp.Or(s.program, os.Args[0]), append([]string{
		"--agent-image=" + agentImage, "--namespace=" + ownNamespace, "--host=127.0.0.1", fmt.Sprintf("--port=%d", listen),
		"--health=" + health, "--metrics=0", "--certificate-dir=" + folder,
	}, flags...)...)
	r.process.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "DRAIN_CONTROLLER_MAIN=yes")
	r.process.Stdout, r.process.Stderr = &r.log, &r.log
	r.process.Cancel = func() error {
		_ = r.process.Process.Signal(syscall.SIGCONT) // a failed test may have stopped it
		return r.process.Process.Signal(os.Interrupt)
	}
	r.process.WaitDelay = time.Minute
	s.show(ctx, folder) // kubelet mounts what is there before it starts a container
	if s.group != nil {
		s.group.Start(r.process)
	}
	if err := r.process.Start(); err != nil {
		t.Fatal(err)
	}
	r.over = make(chan struct{})
	go func() {
		_ = r.process.Wait() // ended as it was told
		close(r.over)
	}()
	r.stop = sync.OnceFunc(func() {
		stop()
		<-r.over
		if t.Failed() {
			t.Logf("drain-controller:\n%s", &r.log)
		}
	})
	t.Cleanup(r.stop)
	go s.mount(ctx, r)
	eventually(t, "drain-controller is ready", func() error { return ready(health) })
	return r
}

type running struct {
	process *exec.Cmd
	folder  string      // with its certificate
	port    int         // of the webhooks
	late    atomic.Bool // kubelet has not heard yet that the Secret has changed
	stop    func()
	over    chan struct{} // closed when it has ended
	log     synced.Buffer
}

// kill ends it without a word.
func (r *running) kill() {
	_ = r.process.Process.Kill() // it may be over
	<-r.over
}

func (r *running) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := r.process.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

func (r *running) ended() bool {
	select {
	case <-r.over:
		return true
	default:
		return false
	}
}

// mount does what kubelet does with a Secret's volume.
func (s *server) mount(ctx context.Context, r *running) {
	for ; ctx.Err() == nil; wait(ctx, 200*time.Millisecond) {
		if !r.late.Load() {
			s.show(ctx, r.folder)
		}
	}
}

// show writes the Secret's data into the folder, if it is there.
func (s *server) show(ctx context.Context, dir string) {
	var secret corev1.Secret
	if s.client.Get(ctx, client.ObjectKey{Namespace: ownNamespace, Name: "drain-controller-certificate"}, &secret) != nil {
		return
	}
	for _, name := range []string{"ca.crt", "tls.key", "tls.crt"} {
		file := filepath.Join(dir, name)
		if was, _ := os.ReadFile(file); len(secret.Data[name]) > 0 && !bytes.Equal(was, secret.Data[name]) {
			_ = os.WriteFile(file+".new", secret.Data[name], 0o600) // a test that waits for it says that it does not come
			_ = os.Rename(file+".new", file)
		}
	}
}

func ready(address string) error {
	response, err := http.Get("http://" + address + "/readyz")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		return errors.New(string(text))
	}
	return nil
}
