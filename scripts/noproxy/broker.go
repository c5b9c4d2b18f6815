package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/scripts/freeport"
	"github.com/drain-agent/drain-agent/scripts/synced"
)

// broker is a Redis on a socket that pods mount: a queue, and the lists into which jobs write themselves. Beside it there may be a RabbitMQ
// that gives the jobs out.
type broker struct {
	dir       string
	processes []*exec.Cmd
	queue     string // URL of the RabbitMQ, on this machine
}

func (l *lab) broker(ctx context.Context, server string) (*broker, error) {
	dir, err := os.MkdirTemp(l.dir, "broker-")
	if err != nil {
		return nil, err
	}
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("redis-server is not installed (Debian's package redis-server)")
	}
	b := &broker{dir: dir}
	err = b.run(exec.CommandContext(ctx, program, "--port", "0", "--unixsocket", filepath.Join(dir, "redis.sock"), "--dir", dir, "--save", ""))
	if err == nil {
		err = synced.Until(ctx, "the broker's socket", func() bool {
			_, err := os.Stat(filepath.Join(dir, "redis.sock"))
			return err == nil
		})
	}
	if err == nil && server == "rabbitmq" {
		err = l.rabbitmq(ctx, b)
	}
	if err != nil {
		b.stop()
		return nil, err
	}
	return b, nil
}

func (b *broker) run(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	b.processes = append(b.processes, cmd)
	return nil
}

func (b *broker) stop() {
	for _, cmd := range b.processes {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// rabbitMQ is the first process of a PID namespace, so that all of it goes at once; what it stores is in memory.
const rabbitMQ = `mount -t proc proc "$D/proc"
for d in lib log; do mount -t tmpfs tmpfs "$D/var/$d/rabbitmq"; chroot "$D" chown rabbitmq: "/var/$d/rabbitmq"; done
printf 'default_user = shop\ndefault_pass = %s\nlisteners.tcp.default = %s\n' "$PASSWORD" "$PORT" >"$D/var/lib/rabbitmq/shop.conf"
chroot "$D" env RABBITMQ_NODENAME=shop@localhost RABBITMQ_CONFIG_FILE=/var/lib/rabbitmq/shop.conf RABBITMQ_DIST_PORT="$DIST" ERL_EPMD_PORT="$EPMD" ERL_EPMD_ADDRESS=127.0.0.1 rabbitmq-server &
wait`

// rabbitmq starts that of the Debian system on a port of this machine, and writes down where pods find it: they see this machine as their
// gateway.
func (l *lab) rabbitmq(ctx context.Context, b *broker) error {
	ports, err := freePorts()
	if err != nil {
		return err
	}
	password := rand.Text()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", rabbitMQ)
	cmd.Env = append(os.Environ(), "D="+l.debian, "PASSWORD="+password, "PORT="+ports[0], "DIST="+ports[1], "EPMD="+ports[2])
	url := "amqp://shop:" + password + "@%s:" + ports[0] + "//"
	b.queue = fmt.Sprintf(url, "127.0.0.1")
	if err := os.WriteFile(filepath.Join(b.dir, "queue"), fmt.Appendf(nil, url, "GATEWAY"), 0o600); err != nil {
		return err
	}
	return errors.Join(b.run(cmd), synced.Until(ctx, "RabbitMQ's port", func() bool {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:"+ports[0])
		if err != nil {
			return false
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		_, err = conn.Write([]byte("AMQP\x00\x00\x09\x01")) // it answers with a Connection.Start
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		return err == nil
	}))
}

func freePorts() (ports [3]string, err error) {
	free, err := freeport.Find(len(ports))
	if err != nil {
		return ports, err
	}
	for i, port := range free {
		ports[i] = strconv.Itoa(port)
	}
	return ports, nil
}

// fill puts jobs into the queue of "celery", "rabbitmq" (Celery's too), "rq" or "sidekiq".
func (l *lab) fill(ctx context.Context, b *broker, server string, jobs int, seconds float64) error {
	cmd := exec.CommandContext(ctx, l.bin("python"), filepath.Join(l.sources, "jobs.py"), server, fmt.Sprint(jobs), fmt.Sprint(seconds))
	if server == "sidekiq" {
		cmd = exec.CommandContext(ctx, "unshare", "--mount", "sh", "-c", "exec "+l.inDebian(b.dir, fmt.Sprintf("ruby job.rb %d %g", jobs, seconds)))
	}
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH="+l.sources, "BROKER="+filepath.Join(b.dir, "redis.sock"), "QUEUE="+b.queue)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fill the queue of %s: %w\n%s", server, err, strings.ReplaceAll(string(out), b.queue, "amqp://…"))
	}
	return nil
}

// count is how many jobs are in one of the lists that they write themselves into.
func (b *broker) count(ctx context.Context, list string) (n int) {
	out, err := exec.CommandContext(ctx, "redis-cli", "-s", filepath.Join(b.dir, "redis.sock"), "LLEN", list).Output()
	if err == nil {
		_, err = fmt.Sscan(string(out), &n)
	}
	if err != nil {
		return -1
	}
	return n
}
