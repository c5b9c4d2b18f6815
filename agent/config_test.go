package main

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// parsed reads a command line of run as the binary does, with the environment of the test.
func parsed(t *testing.T, args ...string) *runFlags {
	t.Helper()
	var line cli
	parser, err := kong.New(&line, kong.DefaultEnvars("DRAIN_AGENT"), kong.Writers(io.Discard, io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"run"}, args...)); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return &line.Run
}

func loaded(t *testing.T, args ...string) *config {
	t.Helper()
	c, err := load(parsed(t, args...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The flags' defaults are the core's defaults: what the core's tests prove holds for the binary.
func TestDefaultsAreTheCores(t *testing.T) {
	c := loaded(t, "--app-source=file:/x")
	want := drain.Defaults()
	want.Pushed = 1 // it is a file
	if !reflect.DeepEqual(c.policy, want) {
		t.Errorf("policy\n%+v, want\n%+v", c.policy, want)
	}
	if len(c.doubts) != 0 {
		t.Errorf("doubts about the defaults: %v", c.doubts)
	}
}

func TestListenNeedsAPort(t *testing.T) {
	for _, listen := range []string{":http", ":65536", ":", ":-1"} {
		if _, err := load(parsed(t, "--listen="+listen)); err == nil || !strings.Contains(err.Error(), "no number up to 65535") {
			t.Errorf("--listen=%s: %v", listen, err)
		}
	}
}

func TestAllProblemsAreToldAtOnce(t *testing.T) {
	bad := map[string]string{
		"--mode=dry": "write drain, observe", "--proxy=nginx": "write auto, envoy, istio, none", "--log-format=xml": "write json, text",
		"--fail-readiness=always": "write never, draining, trigger", "--preset=f5": "write kube-proxy, istio, alb, nlb, gclb",
		"--grace-period=30": "not a duration", "--quiet-min=-1s": "not a duration", "--accept-loss=NaN": "not a number", "--background=many": "not a number",
		"--quit-proxy=perhaps": "neither true nor false", "--poll=100ns": "too short", "--exit-with=job": "no container job",
		"--outlives-me=mesh": "no container mesh", "--stop=app": "not NAME=DURATION", "--stop=db=5s": "no container db",
		"--observe-sleep=app=long": "not NAME=DURATION", "--app-source=ftp:x": "unknown kind", "--app-source=db=file:/x": `no container "db"`,
		"--watch=app=pid:1": "write NAME=port:N", "--watch=db=port:1": `no container "db"`, "--envoy-admin=ftp://x": "leave it empty",
		"--listen=9909": "write :9909", "--app-drain-url=ftp://127.0.0.1:8080/drain": "not a URL",
	}
	var args []string
	for arg := range bad {
		args = append(args, arg)
	}
	slices.Sort(args)
	_, err := load(parsed(t, args...))
	if err == nil {
		t.Fatal("no error")
	}
	if want := fmt.Sprintf("%d problem(s)", len(bad)); !strings.Contains(err.Error(), want) {
		t.Errorf("want %s:\n%v", want, err)
	}
	for arg, remedy := range bad {
		found := false
		for line := range strings.Lines(err.Error()) {
			found = found || strings.HasPrefix(strings.TrimSpace(line), arg) && strings.Contains(line, remedy)
		}
		if !found {
			t.Errorf("no line with %q and %q in\n%v", arg, remedy, err)
		}
	}
}

func TestWrongContainersAreProblems(t *testing.T) {
	for args, want := range map[string]string{
		"--stop-order=app,proxy,app":                      "app stands twice",
		"--stop-order=app,agent":                          "always the last",
		"--stop-order=app+job,proxy --exit-with=app,job":  "nothing tells when job ends; say --watch=job=port:N or --watch=job=file:PATH",
		"--stop-order=app,proxy --workers=app,proxy,many": "no container proxy that works",
	} {
		_, err := load(parsed(t, strings.Fields(args)...))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

// Many containers are no reason to crash: those beyond what one agent tells apart are held like unknown ones, and said.
func TestAnyNumberOfContainers(t *testing.T) {
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf("c%d", i))
	}
	order := strings.Join(names, "+") + ",proxy"
	c := loaded(t, "--stop-order="+order, "--hooks="+strings.Join(names, ",")+",proxy,agent", "--stop=c39=9s", "--watch=c39=port:1",
		"--app-source=c39=file:/x", "--app-source=c3=file:/y", "--outlives-me=c38", "--workers=c37")
	p := &c.policy
	if len(p.Containers) != drain.MaxContainers || p.Proxy() == drain.Nobody || p.Agent() == drain.Nobody || len(c.sources) != 1 {
		t.Errorf("%d containers, proxy %d, agent %d, %d sources", len(p.Containers), p.Proxy(), p.Agent(), len(c.sources))
	}
	if p.Hooks.Has(drain.Stranger) || !p.Hooks.Has(p.Proxy()) || p.Containers[p.Proxy()].Stage != 1 {
		t.Errorf("hooks %b, proxy's stage %d", p.Hooks, p.Containers[p.Proxy()].Stage)
	}
	if said := strings.Join(c.doubts, "\n"); !strings.Contains(said, "42 containers") || !strings.Contains(said, "c39") {
		t.Errorf("doubts %q, want the number and the names", said)
	}
}

// With any number of containers the agent starts; it says what it cannot tell apart, once it must.
func TestNoNumberOfContainersIsAnError(t *testing.T) {
	for _, n := range []int{1, 7, 8, 9, 14, 15, 16, 17, 64, 200} { // besides proxy and agent
		var names, args []string
		for i := range n {
			name := fmt.Sprintf("c%d", i)
			names = append(names, name)
			args = append(args, "--watch="+name+"=port:1", "--stop="+name+"=1s", "--app-auth-file="+name+"=/x")
		}
		c := loaded(t, append(args, "--grace-period=10m", "--stop-order="+strings.Join(names, "+")+",proxy", "--hooks="+strings.Join(names, ",")+",proxy,agent",
			"--workers="+strings.Join(names, ","), "--exit-with="+names[n-1], "--outlives-me="+names[n-1])...)
		p, said := &c.policy, strings.Join(c.doubts, "\n")
		if want := min(n+2, drain.MaxContainers); len(p.Containers) != want || strings.Contains(said, "tells apart") != (n+2 > want) {
			t.Errorf("%d containers: %d followed, want %d; said %q", n+2, len(p.Containers), want, said)
		}
		if last := p.Find(names[n-1]); last == drain.Stranger || p.ExitWith != drain.Set(0).With(last) {
			t.Errorf("%d containers: --exit-with's is not followed: %b", n+2, p.ExitWith)
		}
	}
}

// Where even those of --exit-with are too many, the pod is never ended: the ends of some would cut the others.
func TestTooManyToExitWith(t *testing.T) {
	var names, args []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("c%d", i))
		args = append(args, fmt.Sprintf("--watch=c%d=port:1", i))
	}
	list := strings.Join(names, ",")
	c := loaded(t, append(args, "--stop-order="+list+",proxy", "--exit-with="+list)...)
	if said := strings.Join(c.doubts, "\n"); c.policy.ExitWith != 0 || !strings.Contains(said, "nothing is ended with them") {
		t.Errorf("exit with %b, said %q", c.policy.ExitWith, said)
	}
}

func TestContainersOfAnOrder(t *testing.T) {
	c := loaded(t, "--stop-order=app+worker,otel,proxy", "--hooks=app,worker,otel,proxy,agent,extra",
		"--stop=app=7s", "--stop=otel=1s,proxy=3s", "--outlives-me=proxy")
	p := &c.policy
	for name, want := range map[string]drain.Container{
		"app":    {Name: "app", Stage: 0, Stop: 7 * time.Second},
		"worker": {Name: "worker", Stage: 0, Stop: 2 * time.Second},
		"otel":   {Name: "otel", Stage: 1, Stop: time.Second},
		"proxy":  {Name: "proxy", Stage: 2, Stop: 3 * time.Second, Proxy: true, Outlives: true},
		"extra":  {Name: "extra", Stage: 0, Stop: 2 * time.Second},
		"agent":  {Name: "agent", Stage: -1, Agent: true},
	} {
		id := p.Find(name)
		if id == drain.Stranger || !reflect.DeepEqual(p.Containers[id], want) || !p.Hooks.Has(id) {
			t.Errorf("%s: %+v, want %+v with a hook", name, p.Containers, want)
		}
	}
	if !slices.ContainsFunc(c.doubts, func(s string) bool { return strings.Contains(s, "--hooks names extra") }) {
		t.Errorf("doubts %v", c.doubts)
	}
}

func TestPresetsGiveWayToFlags(t *testing.T) {
	for _, set := range budget.Presets() {
		p := loaded(t, "--preset="+set.Name).policy
		if p.Propagation != set.Propagation || p.AnnounceMax != set.AnnounceMax || p.QuietMin != set.QuietMin || p.QuietMax != set.QuietMax || p.Exposure != set.Exposure {
			t.Errorf("%s: %+v", set.Name, p)
		}
		if set.Source == "" {
			t.Errorf("%s: numbers without a source", set.Name)
		}
	}
	p := loaded(t, "--preset=alb", "--propagation=0s", "--quiet-max=1m1s").policy
	if p.Propagation != 0 || p.QuietMax != 61*time.Second || p.QuietMin != 2*time.Second {
		t.Errorf("flags beside a preset: %+v", p)
	}
	if p := loaded(t, "--stop-order=proxy,app").policy; p.Exposure != 5*time.Millisecond {
		t.Errorf("exposure with the proxy first: %v, want 5ms", p.Exposure)
	}
	if p := loaded(t, "--stop-order=proxy,app", "--exposure=1s").policy; p.Exposure != time.Second {
		t.Errorf("exposure given: %v", p.Exposure)
	}
}

// Every flag of run can be set by its environment twin; a flag on the command line wins.
func TestEnvironmentTwins(t *testing.T) {
	for name, text := range map[string]string{
		"GRACE_PERIOD": "77s", "MODE": "observe", "QUIET_MIN": "3s", "QUIT_PROXY": "true", "ACCEPT_LOSS": "0.5", "STOP": "app=9s,proxy=8s",
		"APP_SOURCE": "prometheus:http://127.0.0.1:1/m#a{b=\"c,d\"}\n\n  other=file:/x\n", "HOOKS": "app,other,proxy,agent",
		"WATCH": "app=port:1\nother=port:2", "ENVOY_ADMIN": "", "STOP_ORDER": "proxy,app", "SETTLE": "1s",
	} {
		t.Setenv("DRAIN_AGENT_"+name, text)
	}
	c := loaded(t, "--settle=2s")
	p := &c.policy
	if p.Grace != 77*time.Second || !p.Observe || p.QuietMin != 3*time.Second || !p.QuitProxy || p.AcceptLoss != 0.5 || p.Settle != 2*time.Second {
		t.Errorf("policy %+v", p)
	}
	if p.Containers[p.Find("app")].Stop != 9*time.Second || p.Containers[p.Find("proxy")].Stop != 8*time.Second || p.Containers[0].Name != "proxy" {
		t.Errorf("containers %+v", p.Containers)
	}
	if len(c.sources) != 2 || len(c.watches) != 2 || c.admin != nil || p.ProxyAdmin || p.Direct() {
		t.Errorf("%d sources, %d watches, admin %v: a line each, and an empty address means timer mode", len(c.sources), len(c.watches), c.admin)
	}
}

func TestUnreadableTwinIsAProblem(t *testing.T) {
	t.Setenv("DRAIN_AGENT_GRACE_PERIOD", "soon")
	if _, err := load(parsed(t)); err == nil || !strings.Contains(err.Error(), "--grace-period=soon") {
		t.Errorf("error %v", err)
	}
	if c := loaded(t, "--grace-period=30s"); c.policy.Grace != 30*time.Second {
		t.Errorf("the flag does not win over its twin: %v", c.policy.Grace)
	}
}

// What is only doubtful starts all the same: a sidecar that does not start takes the pod down with it.
func TestDoubtsAreSaidNotRefused(t *testing.T) {
	const source = "--app-source=file:/x"
	for args, want := range map[string]string{
		source + " --grace-period=4s":  "below the 11.7s that one drain needs",
		source + " --grace-period=12s": "may end in deadline",
		source + " --envoy-admin=":     "timer mode",
		"":                             "no --app-source",
		source + " --mode=observe":     "observe mode",
		source + " --proxy=none --hooks=app,agent --stop-order=app": "--proxy=none without --watch",
		source + " --hooks=app":                  "only one container has a hook",
		source + " --preset=nlb":                 "below the",
		source + " --hooks=app,proxy,agent,otel": "--hooks names otel",
	} {
		c := loaded(t, strings.Fields(args)...)
		if len(c.doubts) != 1 || !strings.Contains(c.doubts[0], want) {
			t.Errorf("%s: doubts %q, want one with %q", args, c.doubts, want)
		}
	}
}

// A pod without an Envoy has no stage for one, whatever the defaults name, and its budget none.
func TestNoProxy(t *testing.T) {
	args := []string{"--proxy=none", "--app-source=file:/x", "--watch=app=port:8080"}
	c := loaded(t, args...)
	if len(c.doubts) > 0 || c.admin != nil || !c.policy.Direct() || c.policy.Proxy() != drain.Nobody || c.policy.Find("proxy") != drain.Stranger {
		t.Errorf("doubts %q, policy %+v", c.doubts, c.policy)
	}
	policy, err := budget.FromArgs(args)
	if err != nil || policy.Budget() != c.policy.Budget() {
		t.Errorf("budget %+v, %v; the agent's is %+v", policy.Budget(), err, c.policy.Budget())
	}
}

func TestHelpNamesEveryFlagAndTwin(t *testing.T) {
	var out, problems bytes.Buffer
	if code := command([]string{"run", "--help"}, &out, &problems); code != 0 {
		t.Errorf("exit code %d: %s", code, problems.String())
	}
	help := strings.Join(strings.Fields(out.String()), " ")
	for flag := range strings.FieldsSeq(`listen control drain-file mode grace-period margin hooks stop-order outlives-me stop proxy envoy-admin
		app-source watch app-drain-url exit-with workers preset propagation announce-max quiet-min quiet-max exposure background accept-loss drain-max settle
		confirm-window restart-max poll fail-readiness quit-proxy token-file log-format termination-log`) {
		twin := "$DRAIN_AGENT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
		if !strings.Contains(help, "--"+flag) || !strings.Contains(help, twin) {
			t.Errorf("help lacks --%s or %s", flag, twin)
		}
	}
	for _, shown := range []string{"--grace-period=30s", "--stop-order=\"app,proxy\"", "--accept-loss=0.02", "--poll=25ms", "--quit-proxy Send", "Preset kube-proxy: 1.5s"} {
		if !strings.Contains(help, shown) {
			t.Errorf("help lacks the default in %s", shown)
		}
	}
	if strings.Contains(help, "main.value") || strings.Contains(help, "STRUCT") {
		t.Error("help shows types of the code")
	}
}

func TestWrongCommandLineExitsWithOne(t *testing.T) {
	for _, line := range []string{"run --no-such-flag", "explode", "run --mode=dry", "probe", "hook"} {
		var out, problems bytes.Buffer
		if code := command(strings.Fields(line), &out, &problems); code != 1 || !strings.HasPrefix(strings.TrimSpace(problems.String()[strings.Index(problems.String(), "drain-agent: "):]), "drain-agent: ") {
			t.Errorf("%s: exit code %d, %s", line, code, problems.String())
		}
	}
}
