package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/drain-agent/drain-agent/scripts/cgroup"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
	"github.com/drain-agent/drain-agent/scripts/synced"
)

// What the faults do to a pod.

func paused(container string) func(context.Context, *played) error {
	return func(ctx context.Context, p *played) error {
		if err := p.Signal(container, syscall.SIGSTOP); err != nil {
			return err
		}
		wait(ctx, disturbed)
		return p.Signal(container, syscall.SIGCONT)
	}
}

func killed(container string) func(context.Context, *played) error {
	return func(_ context.Context, p *played) error { return p.Kill(container) }
}

// restarted ends the agent while the pod serves, and waits until kubelet has started it again and the pod is ready.
func restarted(sig syscall.Signal) func(context.Context, *played) error {
	return func(ctx context.Context, p *played) error {
		if err := p.Signal("agent", sig); err != nil {
			return err
		}
		return p.startedAgain(ctx, "agent")
	}
}

func containerRestarted(ctx context.Context, p *played) error {
	p.Restart("app")
	return p.startedAgain(ctx, "app")
}

func (p *played) startedAgain(ctx context.Context, container string) error {
	err := p.WaitFor(ctx, "the second start of "+container, func(events []pod.Event) bool {
		starts := 0
		for _, e := range events {
			if e.Container == container && e.Kind == pod.Started {
				starts++
			}
		}
		return starts == 2
	})
	if err != nil {
		return err
	}
	if err := p.WaitReady(ctx); err != nil {
		return err
	}
	return synced.Until(ctx, "the agent to serve", func() bool {
		body, err := ask(ctx, http.MethodGet, "http://"+p.address(9909)+"/status")
		return err == nil && strings.Contains(body, `"phase":"serving"`)
	})
}

func limited(what string) func(context.Context, *played) error {
	return func(_ context.Context, p *played) error {
		limit := cgroup.Memory(32 << 20)
		if what == "cpu" {
			limit = cgroup.CPU(1)
		}
		undo, err := limit(p.Pid("agent"), filepath.Base(p.dir))
		if err == nil {
			p.atEnd = append(p.atEnd, undo)
		}
		return err
	}
}

// hooksAgain calls every hook a second time, as a retry does.
func hooksAgain(ctx context.Context, p *played) error {
	for _, name := range []string{"app", "proxy"} {
		go func() { _, _ = ask(ctx, http.MethodGet, "http://"+p.address(9909)+"/prestop/"+name) }()
	}
	return nil
}

func strangers(ctx context.Context, p *played) error {
	for i := range 50 {
		go func() {
			_, _ = ask(ctx, http.MethodGet, fmt.Sprintf("http://%s/prestop/stranger-%d", p.address(9909), i))
		}()
	}
	return nil
}

// strayHook calls one hook of a pod that nobody deletes, waits for its answer and expects that nothing was done to Envoy.
func strayHook(ctx context.Context, p *played) error {
	if _, err := ask(ctx, http.MethodGet, "http://"+p.address(9909)+"/prestop/app"); err != nil {
		return err
	}
	if slices.ContainsFunc(p.events(), func(e event) bool { return e.To == "announcing" }) {
		return fmt.Errorf("a stray hook began a drain")
	}
	return synced.Until(ctx, "the agent to serve again", func() bool {
		all := p.events()
		return len(all) > 0 && all[len(all)-1].To == "serving"
	})
}

func between(side, how string, lasts time.Duration) func(context.Context, *played) error {
	port := map[string]int{"admin": adminBetween, "app": appBetween}[side]
	return func(ctx context.Context, p *played) error {
		if _, err := ask(ctx, http.MethodPut, fmt.Sprintf("http://%s/-/%s", p.address(port), how)); err != nil || lasts == 0 {
			return err
		}
		wait(ctx, lasts)
		_, err := ask(ctx, http.MethodPut, fmt.Sprintf("http://%s/-/pass", p.address(port)))
		return err
	}
}

func verb(name string) func(context.Context, *played) error {
	return func(ctx context.Context, p *played) error {
		out, err := exec.CommandContext(ctx, p.stage.Images["drain-agent"], name, "--reason=fault", "--control="+filepath.Join(p.volume("run"), "control.sock")).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, out)
		}
		return nil
	}
}

func drainUndrain(ctx context.Context, p *played) error {
	if err := verb("drain")(ctx, p); err != nil {
		return err
	}
	if err := p.phase(ctx, "maintenance"); err != nil {
		return err
	}
	if err := verb("undrain")(ctx, p); err != nil {
		return err
	}
	return synced.Until(ctx, "the agent to serve again", func() bool {
		all := p.events()
		return len(all) > 0 && all[len(all)-1].To == "serving"
	})
}

// pushed gives Envoy a file of clusters that can change.
func pushed(bootstrap string) string {
	return "dynamic_resources:\n  cds_config: {path_config_source: {path: /etc/envoy/clusters.yaml}, resource_api_version: V3}\n" +
		"node: {id: pod, cluster: faults}\n" + bootstrap
}

const noClusters = "resources: []\n"

// push adds a cluster by moving a new file over the old one, which is what Envoy looks for.
func push(_ context.Context, p *played) error {
	const cluster = `resources:
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: late
  type: STATIC
  load_assignment:
    cluster_name: late
    endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 8081}}}}]}]
`
	dir := p.volume("envoy")
	next := filepath.Join(dir, "next.yaml")
	if err := os.WriteFile(next, []byte(cluster), 0o644); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(dir, "clusters.yaml"))
}

// fill returns a folder on a file system of its own without a free byte.
func fill(dir string) (undo func() error, err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	if err := syscall.Mount("faults", dir, "tmpfs", 0, "size=64k,mode=0777"); err != nil {
		return nil, fmt.Errorf("mount a small disk: %w", err)
	}
	undo = sync.OnceValue(func() error { return syscall.Unmount(dir, syscall.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(dir, "full"), make([]byte, 1<<17), 0o644); err == nil {
		return undo, fmt.Errorf("the small disk took all")
	}
	return undo, nil
}
