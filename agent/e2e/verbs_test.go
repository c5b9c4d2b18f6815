package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

const installed = "/tools/drain-agent"

// execTwin gives every container an exec hook: the binary comes by install from an init container into a shared volume.
// The proxy's startup probe is the verb wait, the agent's probes are the verb probe.
func execTwin(p *corev1.Pod) {
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "tools", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	tools := corev1.VolumeMount{Name: "tools", MountPath: filepath.Dir(installed)}
	run := corev1.VolumeMount{Name: "run", MountPath: "/run/drain-agent"}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			c := &list[i]
			c.VolumeMounts = append(c.VolumeMounts, tools)
			c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{installed, "hook", c.Name}}}}
			switch c.Name {
			case "app":
				c.VolumeMounts = append(c.VolumeMounts, run)
			case "proxy":
				c.ReadinessProbe = nil
				c.StartupProbe = execProbe(installed, "wait", "--timeout=500ms")
			case "agent":
				c.ReadinessProbe = execProbe("drain-agent", "probe", "http://127.0.0.1:9909/readyz")
				c.StartupProbe = execProbe("drain-agent", "probe", "--addr=127.0.0.1:9909", "--service=startup")
			}
		}
	}
	install := corev1.Container{Name: "install", Image: "agent", Args: []string{"install", tools.MountPath}, VolumeMounts: []corev1.VolumeMount{tools}}
	p.Spec.InitContainers = append([]corev1.Container{install}, p.Spec.InitContainers...)
}

func execProbe(command ...string) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: command}}, PeriodSeconds: 1, FailureThreshold: 30}
}

// acted reports whether the timeline has this action, done.
func (u *under) acted(action string) bool {
	for _, e := range u.events() {
		if e.Action == action && e.Result == "ok" {
			return true
		}
	}
	return false
}

// Exec hooks do what HTTP hooks do. Over the socket the kernel says who calls: the agent's own UID may do what cannot be undone,
// another UID may not.
func TestExecHooks(t *testing.T) {
	for name, stranger := range map[string]bool{"own UID": false, "another UID": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := start(t, setup{manifest: func(p *corev1.Pod) {
				execTwin(p)
				if stranger {
					becomeUsers(p)
					p.Spec.InitContainers[1].Lifecycle = hook("agent") // over the socket it would be our own UID
				}
			}})
			startup, _ := u.when("proxy", pod.Probed)
			if app, ok := u.when("app", pod.Started); !ok || app.Before(startup) {
				t.Error("the app was started before envoy was ready")
			}
			long := u.background("/work?ms=4000")
			u.busy(1)
			u.stop()
			a := <-long
			u.mustServe("in flight", a)
			u.verdict("clean")
			u.inOrder("app hook_answered", "app sigterm", "proxy hook_answered", "proxy exited")
			if answered, _ := u.when("app", pod.HookAnswered); answered.Before(a.at) {
				t.Error("the app's exec hook ended before its request")
			}
			for _, c := range []string{"app", "proxy", "agent"} {
				if u.happened(c, pod.HookFailed) != 0 {
					t.Errorf("the exec hook of %s failed", c)
				}
			}
			if u.acted("drain_listeners") == stranger {
				t.Errorf("drain_listeners done: %v", !stranger)
			}
			if u.acted("healthcheck_fail") != stranger {
				t.Errorf("healthcheck_fail done: %v", !stranger)
			}
		})
	}
}

const (
	agentUser, appUser, sharedGroup = int64(65532), int64(12345), int64(65532)
)

// becomeUsers runs the agent as its image does, the other two under another UID, all in one group as fsGroup makes it.
func becomeUsers(p *corev1.Pod) {
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			user := agentUser
			switch list[i].Name {
			case "app":
				list[i].VolumeMounts = append(list[i].VolumeMounts, corev1.VolumeMount{Name: "data", MountPath: "/data"})
				list[i].Env = append(list[i].Env, corev1.EnvVar{Name: "APP_STORE", Value: "sqlite:/data/payments.db"})
				user = appUser
			case "proxy":
				user = appUser
			}
			list[i].SecurityContext = &corev1.SecurityContext{RunAsUser: new(user), RunAsGroup: new(sharedGroup)}
		}
	}
}

// verb runs one of the agent's commands on this machine and returns what it printed and its exit code.
func verb(t *testing.T, as *syscall.Credential, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binaries.agent, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	text, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatalf("%v: %v", args, err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// The socket has mode 0660. Another UID in the group may call a hook and nothing else; outside the group nobody gets in.
func TestControlSocketIsForItsOwner(t *testing.T) {
	t.Parallel()
	u := start(t, setup{manifest: becomeUsers})
	socket := u.shared("control.sock")
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Fatalf("mode of the socket: %v, %v", info.Mode(), err)
	}
	for _, dir := range []string{u.dir, filepath.Dir(binaries.agent)} { // or only root could come so far
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	control := "--control=" + socket
	peer := &syscall.Credential{Uid: uint32(appUser), Gid: uint32(sharedGroup)}
	for _, v := range [][]string{{"drain"}, {"undrain"}, {"finish"}, {"status"}} {
		if out, code := verb(t, peer, append(v, control)...); code != 1 || !strings.Contains(out, "only UID 65532 and root may do this; you are UID 12345") {
			t.Errorf("%v under another UID: exit code %d, %s", v, code, out)
		}
	}
	if out, code := verb(t, &syscall.Credential{Uid: uint32(appUser), Gid: uint32(appUser)}, "status", control); code != 1 || !strings.Contains(out, "permission denied") {
		t.Errorf("status outside the group: exit code %d, %s", code, out)
	}
	if out, code := verb(t, peer, "hook", "app", control); code != 0 || !strings.Contains(out, `"outcome":"container_restart"`) {
		t.Errorf("hook under another UID: exit code %d, %s", code, out)
	}
	u.until("the agent to serve again", func() bool { return strings.Contains(u.status(), `"phase":"serving"`) })
	own := &syscall.Credential{Uid: uint32(agentUser), Gid: uint32(sharedGroup)}
	if out, code := verb(t, own, "drain", "--reason=its owner", control); code != 0 {
		t.Errorf("drain under our own UID: exit code %d, %s", code, out)
	}
	u.phase("maintenance", 1)
}

// The operator's verbs; each reason is found in the timeline and in the verdict.
func TestOperatorVerbs(t *testing.T) {
	t.Parallel()
	u := start(t, setup{uds: true})
	control := "--control=" + u.shared("control.sock")
	if out, code := verb(t, nil, "finish", control); code != 1 || !strings.Contains(out, "nothing is being drained") {
		t.Errorf("finish while serving: exit code %d, %s", code, out)
	}
	u.operate("drain", "--reason=kernel upgrade")
	u.phase("maintenance", 1)
	u.until("envoy's health check to fail", func() bool { return u.admin("/ready") == "DRAINING" })
	if a := u.ready(); a.status != 503 || !strings.Contains(a.body, "maintenance") {
		t.Errorf("readiness in maintenance: %d %s", a.status, a.body)
	}
	u.mustServe("in maintenance", u.fresh(t.Context(), "/work?ms=1"))
	if text := u.operate("status"); !strings.Contains(text, "phase     maintenance") {
		t.Errorf("status in maintenance:\n%s", text)
	}
	u.operate("undrain", "--reason=kernel upgraded")
	u.phase("serving", 1)
	u.until("envoy's health check to pass", func() bool { return u.admin("/ready") == "LIVE" })
	if v := u.verdict("maintenance"); !strings.Contains(v.Reason, "kernel upgraded") {
		t.Errorf("reason of the verdict: %s", v.Reason)
	}
	u.saidReason("kernel upgrade", "kernel upgraded")

	endless := u.background("/work?ms=600000")
	u.busy(1)
	u.Delete(nil)
	u.phase("draining", 1)
	u.statusJSON()
	u.operate("finish", "--reason=nobody needs the rest")
	u.wait()
	<-endless
	if v := u.verdict("finished_by_operator"); !strings.Contains(v.Reason, "nobody needs the rest") || v.Cut["app"] != 1 {
		t.Errorf("reason of the verdict: %s; cut %v", v.Reason, v.Cut)
	}
	u.saidReason("nobody needs the rest")
	if code := u.ExitCode("agent"); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	u.inOrder("app hook_answered", "app sigterm", "proxy hook_answered")
}

func (u *under) ready() answer {
	return get(u.t.Context(), keepNothing(), u.url(agentPort, "/readyz"))
}

func (u *under) saidReason(reasons ...string) {
	u.t.Helper()
	for _, reason := range reasons {
		said := false
		for _, e := range u.events() {
			said = said || strings.Contains(e.Reason, reason)
		}
		if !said {
			u.t.Errorf("the timeline does not say %q", reason)
		}
	}
}

// statusJSON holds status -o json to the contract while a request blocks the drain.
func (u *under) statusJSON() {
	u.t.Helper()
	var st struct {
		Phase  string `json:"phase"`
		LeftMS *int64 `json:"left_ms"`
		Hooks  []struct {
			Container string `json:"container"`
			Answered  bool   `json:"answered"`
		} `json:"hooks"`
		Waiting string            `json:"waiting"`
		Events  []json.RawMessage `json:"events"`
	}
	text := u.operate("status", "-o", "json")
	if err := json.Unmarshal([]byte(text), &st); err != nil {
		u.t.Fatalf("status -o json: %v\n%s", err, text)
	}
	if st.Phase != "draining" || st.LeftMS == nil || len(st.Hooks) != 3 || st.Hooks[0].Answered || len(st.Events) == 0 || !strings.Contains(st.Waiting, "in flight") {
		u.t.Errorf("status -o json: %s", text)
	}
}

// While the drain file exists the pod is in maintenance.
func TestDrainFile(t *testing.T) {
	t.Parallel()
	u := start(t, setup{uds: true, agent: []string{"--drain-file=/run/drain-agent/drain"}})
	file := filepath.Join(filepath.Dir(u.shared("control.sock")), "drain")
	for n := 1; n <= 2; n++ {
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		u.phase("maintenance", n)
		u.until("envoy's health check to fail", func() bool { return u.admin("/ready") == "DRAINING" })
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		u.phase("serving", n)
		u.until("envoy's health check to pass", func() bool { return u.admin("/ready") == "LIVE" })
	}
	if v := u.verdict("maintenance"); !strings.Contains(v.Reason, "drain file /run/drain-agent/drain") {
		t.Errorf("reason %s", v.Reason)
	}
	u.stop()
	u.verdict("clean")
}

// probe reads the agent's own faces and any gRPC server, as grpc_health_probe does.
func TestProbe(t *testing.T) {
	t.Parallel()
	u := start(t, setup{})
	ok, failing := grpcServer(t)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/asked" && r.Host == "shop.example" && r.Header.Get("Cookie") == "a=b: c" {
			return
		}
		http.Redirect(w, r, "https://elsewhere.invalid/", http.StatusFound)
	}))
	t.Cleanup(secure.Close)
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{u.url(agentPort, "/livez")}, 0, "200 OK"},
		{[]string{u.url(agentPort, "/startupz/proxy")}, 0, "200 OK"},
		{[]string{u.url(agentPort, "/nothing")}, 1, "404"},
		{[]string{u.addr(agentPort)}, 0, "SERVING"},
		{[]string{"--addr=" + u.addr(agentPort), "--service=liveness"}, 0, "SERVING"},
		{[]string{"--addr=" + u.addr(agentPort), "--service=nothing"}, 1, "NotFound"},
		{[]string{ok}, 0, "SERVING"},
		{[]string{failing}, 1, "NOT_SERVING"},
		{[]string{"--timeout=200ms", "127.0.0.1:1"}, 1, "refused"},
		{[]string{"tcp://" + ok}, 0, "open"},
		{[]string{"tcp://127.0.0.1:1"}, 1, "refused"},
		{[]string{secure.URL + "/moved"}, 0, "302"}, // a certificate that nobody knows; elsewhere, so kubelet does not follow
		{[]string{"--header=Host: shop.example", "--header=Cookie: a=b: c", secure.URL + "/asked"}, 0, "200 OK"},
		{nil, 1, "probe what?"},
	} {
		if out, code := verb(t, nil, append([]string{"probe"}, tt.args...)...); code != tt.code || !strings.Contains(out, tt.says) {
			t.Errorf("probe %q: exit code %d, %s; want %d, %s", tt.args, code, out, tt.code, tt.says)
		}
	}
}

// grpcServer returns the addresses of a server that is healthy and of one that is not.
func grpcServer(t *testing.T) (ok, failing string) {
	t.Helper()
	for _, status := range []grpc_health_v1.HealthCheckResponse_ServingStatus{grpc_health_v1.HealthCheckResponse_SERVING, grpc_health_v1.HealthCheckResponse_NOT_SERVING} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		checks := health.NewServer()
		checks.SetServingStatus("", status)
		server := grpc.NewServer()
		grpc_health_v1.RegisterHealthServer(server, checks)
		go func() { _ = server.Serve(listener) }() // ends with Stop
		t.Cleanup(server.Stop)
		ok, failing = failing, listener.Addr().String()
	}
	return ok, failing
}

// wait ends when envoy is ready, and says what it waited for when it is not.
func TestWait(t *testing.T) {
	t.Parallel()
	u := start(t, setup{uds: true})
	if out, code := verb(t, nil, "wait", "--envoy-admin=unix://"+u.shared("envoy.sock")); code != 0 {
		t.Errorf("wait: exit code %d, %s", code, out)
	}
	u.operate("drain", "--reason=not ready")
	u.until("envoy's health check to fail", func() bool { return u.admin("/ready") == "DRAINING" })
	began := time.Now()
	if out, code := verb(t, nil, "wait", "--timeout=300ms", "--envoy-admin=unix://"+u.shared("envoy.sock")); code != 1 || !strings.Contains(out, "not ready within 300ms: it answers that it is not") {
		t.Errorf("wait for an envoy that is not ready: exit code %d, %s", code, out)
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("gave up after %v", took)
	}
}

func keepNothing() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}, Timeout: 5 * time.Second}
}
