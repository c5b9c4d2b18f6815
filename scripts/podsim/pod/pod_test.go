package pod_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// A hook that nobody answers is a failure (FailedPreStopHook) and SIGTERM follows at once.
func TestUnreachableHookMeansSigtermAtOnce(t *testing.T) {
	t.Parallel()
	p := run(t, manifest(30, nil, hooked(fakeContainer("app", 8080, nil))))
	ready(t, p)
	p.Delete(nil)
	events := finished(t, p)
	inOrder(t, events, "t0", "app hook_called", "app hook_failed", "app sigterm", "app exited")
	between(t, "the pod's end", at(t, events, "", pod.Finished, 1)-at(t, events, "", pod.T0, 1), 0, 10*time.Second)
}

// All hooks begin together, and each regular container gets SIGTERM when its own hook is answered.
func TestEachRegularContainerIsStoppedWhenItsOwnHookReturns(t *testing.T) {
	t.Parallel()
	agent := native(hooked(fakeContainer("agent", agentPort, env{"HOLD_fast": "1s", "HOLD_slow": "3s"})))
	p := run(t, manifest(30, []corev1.Container{agent}, hooked(fakeContainer("slow", 8080, nil)), hooked(fakeContainer("fast", 8081, nil))))
	ready(t, p)
	p.Delete(nil)
	events := finished(t, p)
	inOrder(t, events, "fast hook_answered", "fast sigterm", "fast exited", "slow hook_answered", "slow sigterm", "slow exited", "agent sigterm")
	inOrder(t, events, "slow hook_called", "fast hook_answered")
	inOrder(t, events, "agent hook_called", "slow hook_answered")
}

// An app that dies while its hook is held is not noticed before the hook ends; sidecars wait that long.
func TestDeadContainersHookStillHoldsTheSidecars(t *testing.T) {
	t.Parallel()
	agent := native(hooked(fakeContainer("agent", agentPort, env{"HOLD_app": "2s"})))
	p := run(t, manifest(30, []corev1.Container{agent}, hooked(fakeContainer("app", 8080, nil))))
	ready(t, p)
	p.Delete(nil)
	until(t, p, "hook", func(e []pod.Event) bool { return has(e, "app", pod.HookCalled) })
	if err := p.Kill("app"); err != nil {
		t.Fatal(err)
	}
	events := finished(t, p)
	inOrder(t, events, "app exited", "app hook_answered", "agent sigterm")
	if has(events, "app", pod.Sigterm) || p.ExitCode("app") != 137 {
		t.Errorf("the dead app was signalled, or its code is %d, not 137", p.ExitCode("app"))
	}
}

// A Job: when the main container is done the sidecars are stopped, with their hooks.
func TestJobStopsItsSidecarsWhenTheMainContainerIsDone(t *testing.T) {
	t.Parallel()
	agent := native(hooked(fakeContainer("agent", agentPort, nil)))
	agent.StartupProbe = patient(health(agentPort)) // so that it listens before the main container is done
	m := manifest(30, []corev1.Container{agent}, fakeContainer("main", 0, env{"EXIT": "0", "EXIT_AFTER": "100ms"}))
	m.Spec.RestartPolicy = corev1.RestartPolicyNever
	events := finished(t, run(t, m))
	inOrder(t, events, "main exited", "t0", "agent hook_called", "agent hook_answered", "agent sigterm", "agent exited", "finished")
	if count(events, "main", pod.Started) != 1 {
		t.Error("the main container was started again")
	}
}

func TestFailedMainContainerOfAJobIsTriedAgainOnFailure(t *testing.T) {
	t.Parallel()
	m := manifest(1, nil, fakeContainer("main", 0, env{"EXIT": "3"}))
	m.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	p := runWith(t, m, quick)
	until(t, p, "restarts", func(e []pod.Event) bool { return count(e, "main", pod.Exited) >= 3 })
	if p.ExitCode("main") != 3 {
		t.Errorf("exit code %d, want 3", p.ExitCode("main"))
	}
}

func TestInitContainersRunInOrderBeforeTheRest(t *testing.T) {
	t.Parallel()
	sidecar := native(fakeContainer("sidecar", 15000, nil))
	sidecar.StartupProbe = patient(health(15000))
	p := runWith(t, manifest(1, []corev1.Container{
		fakeContainer("first", 0, env{"EXIT": "0", "EXIT_AFTER": "1s"}), sidecar, fakeContainer("second", 0, env{"EXIT": "0"}),
	}, fakeContainer("app", 8080, nil)), quick)
	ready(t, p)
	inOrder(t, p.Events(), "first started", "first exited", "sidecar started", "sidecar probe", "second started", "second exited", "app started", "pod_ready")
}

func TestRestartRunsTheHookAndStartsAgain(t *testing.T) {
	t.Parallel()
	agent := native(hooked(fakeContainer("agent", agentPort, nil)))
	p := run(t, manifest(30, []corev1.Container{agent}, hooked(fakeContainer("app", 8080, nil))))
	ready(t, p)
	before := p.Pid("app")
	p.Restart("app")
	until(t, p, "restart", func(e []pod.Event) bool { return count(e, "app", pod.Started) == 2 })
	inOrder(t, p.Events(), "app hook_called", "app hook_answered", "app sigterm", "app exited", "app started")
	if after := p.Pid("app"); after == before || after == 0 {
		t.Errorf("pid %d after %d", after, before)
	}
}

// Two pods with the same ports run side by side, each with an address (or ports) of its own.
func TestPodsRunSideBySide(t *testing.T) {
	t.Parallel()
	for _, mode := range []pod.Mode{pod.Auto, pod.Ports} {
		one := runWith(t, manifest(1, nil, fakeContainer("app", 8080, nil)), pod.Options{Isolate: mode})
		two := runWith(t, manifest(1, nil, fakeContainer("app", 8080, nil)), pod.Options{Isolate: mode})
		address := func(p *pod.Pod) string { return fmt.Sprintf("%s:%d", p.IP(), p.Port(8080)) }
		if address(one) == address(two) {
			t.Errorf("both are at %s", address(one))
		}
		for _, p := range []*pod.Pod{one, two} {
			ready(t, p)
			call(t, p, 8080, "/healthz")
		}
	}
}

func TestShutdownInModePorts(t *testing.T) {
	t.Parallel()
	agent := native(hooked(fakeContainer("agent", agentPort, env{"HOLD_app": "300ms", "HOLD_agent": "port:8080"})))
	agent.StartupProbe = patient(health(agentPort))
	p := runWith(t, manifest(30, []corev1.Container{agent}, hooked(fakeContainer("app", 8080, nil))), pod.Options{Isolate: pod.Ports})
	ready(t, p)
	p.Delete(nil)
	events := finished(t, p)
	inOrder(t, events, "app hook_called", "app hook_answered", "app sigterm", "app exited", "agent sigterm", "agent exited")
	inOrder(t, events, "app sigterm", "agent hook_answered", "agent sigterm")
}

// Environment, arguments, volumes, the termination log and exec hooks are where the manifest says, in both modes.
func TestContainersSeeWhatTheManifestSays(t *testing.T) {
	t.Parallel()
	for _, mode := range []pod.Mode{pod.Auto, pod.Ports} {
		writer := fakeContainer("writer", 0, env{"MESSAGE": "last words", "MESSAGE_PATH": "/dev/termination-log"})
		writer.Env = append(writer.Env, corev1.EnvVar{Name: "GREETING", Value: "hello $(FAKE) $$(FAKE) $(NOBODY)"})
		writer.Args = []string{"--say=$(GREETING)"}
		shell := corev1.Container{
			Name: "shell", Image: "shell", Command: []string{"sh", "-c", `trap exit TERM; cat /data/deep/seen/../../config/file; while :; do sleep 0.05; done`},
			VolumeMounts: []corev1.VolumeMount{{Name: "shared", MountPath: "/data/deep/seen"}, {Name: "config", MountPath: "/data/config", ReadOnly: true}},
			Lifecycle:    &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "echo hooked > /dev/termination-log"}}}},
		}
		m := manifest(2, nil, writer, shell)
		m.Spec.Volumes = []corev1.Volume{
			{Name: "shared", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}}}},
		}
		p := runWith(t, m, pod.Options{Isolate: mode, ConfigMaps: map[string]map[string]string{"conf": {"file": "configured"}}})
		eventually(t, "output", func() bool { return strings.Contains(string(p.Log("writer")), "args") })
		ready(t, p)
		p.Delete(nil)
		finished(t, p)
		if got := string(p.Log("writer")); !strings.Contains(got, "args [--say=hello writer $(FAKE) $(NOBODY)]") {
			t.Errorf("mode %v: writer wrote %q", mode, got)
		}
		if mode == pod.Auto && p.Isolated() && !strings.Contains(string(p.Log("shell")), "configured") {
			t.Errorf("shell wrote %q", p.Log("shell"))
		}
		if got := p.TerminationMessage("writer"); got != "last words" {
			t.Errorf("mode %v: writer's message is %q", mode, got)
		}
		if got := p.TerminationMessage("shell"); got != "hooked\n" {
			t.Errorf("mode %v: shell's message is %q", mode, got)
		}
	}
	if _, err := os.Stat("/data/deep"); err == nil {
		t.Error("a mount point was left on the machine")
	}
}

func TestEverythingUnknownInAManifestIsNamedAtOnce(t *testing.T) {
	t.Parallel()
	c := fakeContainer("app", 0, nil)
	c.VolumeMounts = []corev1.VolumeMount{{Name: "absent", MountPath: "/x"}}
	c.Env = append(c.Env, corev1.EnvVar{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{}}})
	m := manifest(1, nil, c)
	m.Spec.HostNetwork = true
	_, err := pod.Start(t.Context(), m, pod.Options{})
	for _, want := range []string{"absent", "CPU", "hostNetwork"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func TestLoadTakesAPodAndItsConfigMaps(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pod.yaml")
	text := "kind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: app, image: fake}]}\n---\nkind: ConfigMap\nmetadata: {name: c}\ndata: {k: v}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m, configs, err := pod.Load(file)
	if err != nil || m.Spec.Containers[0].Name != "app" || configs["c"]["k"] != "v" {
		t.Errorf("%v %v %v", m, configs, err)
	}
}

func TestEventsAreJSONLines(t *testing.T) {
	t.Parallel()
	line, err := json.Marshal(pod.Event{Container: "app", Kind: pod.Exited, Elapsed: 1500 * time.Microsecond})
	if err != nil || !strings.Contains(string(line), `"elapsed_ms":1.5,"container":"app","event":"exited","code":0`) {
		t.Errorf("%s %v", line, err)
	}
}

// crash runs a pod, says where, and waits to be killed.
func crash() {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	os.Unsetenv("CRASH")
	m := manifest(1, []corev1.Container{native(fakeContainer("agent", 0, nil))}, fakeContainer("app", 8080, nil))
	p, err := pod.Start(context.Background(), m, pod.Options{Images: map[string]string{"fake": self}})
	if err != nil {
		panic(err)
	}
	if err := p.WaitReady(context.Background()); err != nil {
		panic(err)
	}
	fmt.Println(p.IP(), p.Pid("agent"), p.Pid("app"))
	select {}
}

// A program that dies leaves no process and no network device behind.
func TestACrashLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "CRASH=1", "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ip string
	var agent, app int
	if _, err := fmt.Fscan(bufio.NewReader(out), &ip, &agent, &app); err != nil {
		t.Fatal(err)
	}
	runs := func(pid int) bool { // on a busy machine another program soon has the same number
		program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		return err == nil && filepath.Base(program) == filepath.Base(self)
	}
	if !runs(agent) || !runs(app) {
		t.Fatal("the containers do not run")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	eventually(t, "the agent is gone", func() bool { return !runs(agent) })
	eventually(t, "the app is gone", func() bool { return !runs(app) })
	eventually(t, "the network is gone", func() bool { return !reachable(ip) })
}

// reachable reports whether this machine has the network of a pod's address.
func reachable(ip string) bool {
	addresses, _ := net.InterfaceAddrs()
	for _, a := range addresses {
		if network, ok := a.(*net.IPNet); ok && !network.IP.IsLoopback() && network.Contains(net.ParseIP(ip)) {
			return true
		}
	}
	return false
}
