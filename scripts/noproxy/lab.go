package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// packages are what the pods run, from PyPI.
var packages = []string{"fastapi", "uvicorn", "prometheus-client", "celery[redis]", "packaging", "rq", "grpcio", "tzdata"}

// lab has the programs that pods run here, and where they are kept.
type lab struct {
	dir      string // of this run
	sources  string // of model.py and jobs.py
	python   string // the virtual environment
	debian   string // a system with RabbitMQ and Sidekiq; more has made it
	drainctl string
	images   map[string]string
}

// newLab installs what PyPI has into a cache, the first time, and builds what is ours.
func newLab(ctx context.Context, dir, root string) (*lab, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	l := &lab{
		dir: dir, sources: filepath.Join(root, "scripts", "noproxy"),
		drainctl: filepath.Join(dir, "drainctl"), images: map[string]string{"ghcr.io/drain-agent/drain-agent:v0.1.0-dev": filepath.Join(dir, "drain-agent")},
	}
	cacheDir, err := cache()
	if err != nil {
		return nil, err
	}
	l.debian = filepath.Join(cacheDir, "debian")
	if l.python, err = install(ctx); err != nil {
		return nil, err
	}
	for program, pkg := range map[string]string{l.drainctl: "./deploy/drainctl", filepath.Join(dir, "drain-agent"): "./agent"} {
		build := exec.CommandContext(ctx, "go", "build", "-o", program, pkg)
		build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	env := "PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=" + l.sources + " "
	for image, line := range map[string]string{
		"registry.example/model:1":           l.bin("uvicorn") + " --host 0.0.0.0 --port 8000 --log-level warning model:app",
		"registry.example/grpc-model:1":      l.bin("python") + " -m grpc_model",
		"registry.example/shop:1":            l.bin("celery") + " -A jobs worker --concurrency 2 --loglevel INFO",
		"registry.example/shop-on-rq:1":      l.bin("rq") + " worker --url unix://$BROKER",
		"registry.example/shop-on-sidekiq:1": l.inDebian("/run/broker", "sidekiq -c 2 -r ./job.rb"),
		"registry.example/node-model:1":      "env NODE_PATH=" + filepath.Join(cacheDir, "node", "node_modules") + " node " + filepath.Join(l.sources, "stream.js"),
	} {
		program := filepath.Join(dir, strings.NewReplacer("/", "-", ":", "-").Replace(image))
		if err := os.WriteFile(program, []byte("#!/bin/sh\nexport "+env+"\nexec "+line+"\n"), 0o755); err != nil { //nolint:gosec // a program
			return nil, err
		}
		l.images[image] = program
	}
	l.images["registry.example/files:1"], err = l.files()
	return l, err
}

func (l *lab) bin(program string) string { return filepath.Join(l.python, "bin", program) }

// cache is where programs are kept between runs.
func cache() (string, error) {
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "drain-agent", "noproxy"), err
}

// install makes the virtual environment, once, and says where it is.
func install(ctx context.Context) (string, error) {
	dir, err := cache()
	if err != nil {
		return "", err
	}
	python := filepath.Join(dir, "python")
	return python, once(ctx, python, strings.Join(packages, "+"),
		[]string{"python3", "-m", "venv", python},
		append([]string{filepath.Join(python, "bin", "pip"), "-q", "--disable-pip-version-check", "install"}, packages...))
}

// more installs what only the tables need: servers of npm, and a Debian with RabbitMQ and Sidekiq.
func (l *lab) more(ctx context.Context) error {
	node := filepath.Join(filepath.Dir(l.debian), "node")
	const debian = "rabbitmq-server,ruby-sidekiq"
	return errors.Join(
		once(ctx, node, "express+prom-client", []string{"npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", node, "express", "prom-client"}),
		once(ctx, l.debian, debian,
			[]string{"rm", "-rf", l.debian},
			[]string{"debootstrap", "--variant=minbase", "--include=" + debian, "trixie", l.debian},
			[]string{"mkdir", "-p", filepath.Join(l.debian, "run", "broker"), filepath.Join(l.debian, "srv", "noproxy")}))
}

// once runs commands that fill a folder, unless they did so before: a file with that name says it.
func once(ctx context.Context, dir, name string, commands ...[]string) error {
	done := filepath.Join(dir, name)
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // programs for all users of the pods
		return err
	}
	for _, line := range commands {
		if out, err := exec.CommandContext(ctx, line[0], line[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(line, " "), err, out)
		}
	}
	return os.WriteFile(done, nil, 0o644) //nolint:gosec // a mark
}

// inDebian is a shell line that becomes a command in that system, in the folder of the sources, with the broker's folder where pods have it.
// Its mounts go with the mount namespace that it runs in.
func (l *lab) inDebian(broker, command string) string {
	return fmt.Sprintf("sh -ec 'mount -t proc proc %[1]s/proc; mount --bind %[2]s %[1]s/run/broker; mount --bind %[3]s %[1]s/srv/noproxy; exec chroot %[1]s env -C /srv/noproxy %[4]s'",
		l.debian, broker, l.sources, command)
}

// inject runs drainctl inject on a manifest.
func (l *lab) inject(ctx context.Context, manifest string, more ...string) (string, error) {
	cmd := exec.CommandContext(ctx, l.drainctl, append([]string{"inject", "-f", "-", "--token=-"}, more...)...)
	var said strings.Builder
	cmd.Stdin, cmd.Stderr = strings.NewReader(manifest), &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%v: %w: %s", cmd, err, said.String())
	}
	return string(out), nil
}

var errShared = errors.New("pods have no network of their own here: it takes root on Linux")

// start runs a manifest as a pod and waits until it is ready.
func (l *lab) start(ctx context.Context, name, manifest string, volumes map[string]string) (*pod.Pod, error) {
	dir, err := os.MkdirTemp(l.dir, name+"-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "pod.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		return nil, err
	}
	loaded, _, err := pod.Load(file)
	if err != nil {
		return nil, err
	}
	p, err := pod.Start(ctx, loaded, pod.Options{Images: l.images, Volumes: volumes, Dir: dir})
	if err != nil {
		return nil, err
	}
	if !p.Isolated() {
		p.Close()
		return nil, errShared
	}
	if err := p.WaitUp(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}
