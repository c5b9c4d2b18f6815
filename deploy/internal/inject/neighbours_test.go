package inject_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
)

// A NetworkPolicy is worth a note where nobody can reach the agent's port, and only there.
func TestANetworkPolicyIsToldWhereItClosesThePort(t *testing.T) {
	const name = "82-closed-port"
	_, reports, err := inject.File(name, shapes(t)[name], options(name))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reports {
		told := slices.ContainsFunc(r.Plan.Notes, func(note string) bool { return strings.Contains(note, "NetworkPolicy deny-all closes port 9909") })
		if told != (r.Object.Name == "closed") {
			t.Errorf("%s: %q", r.Object.Name, r.Plan.Notes)
		}
	}
}

// What a pod's annotations say, its Namespace's do not change, and a flag outranks both; what cannot be read is an error with its line.
func TestFlagsOutrankAnnotations(t *testing.T) {
	const name = "77-settings-annotated"
	text := string(shapes(t)[name])
	o := options(name)
	o.Said, o.AgentArgs, o.Preset = []string{"quiet-max", "preset"}, []string{"--quiet-max=9s"}, "istio"
	_, reports, err := inject.File(name, []byte(text), o)
	if err != nil {
		t.Fatal(err)
	}
	if args := strings.Join(reports[0].Plan.Args, " "); !strings.Contains(args, "--preset=istio") || !strings.Contains(args, "--quiet-max=9s") || strings.Count(args, "--quiet-max") != 1 {
		t.Error(args)
	}
	bad := []byte(strings.Replace(text, "quiet-max: 5s", "quiet-max: long", 1))
	if _, _, err := inject.File("f", bad, options(name)); err == nil || !strings.Contains(err.Error(), `f:20: document 2: Deployment orders: annotations that cannot be read: drain-agent.io/quiet-max: "long": write a duration`) {
		t.Error(err)
	}
	o = options(name)
	o.Lenient = true
	if _, reports, err := inject.File("f", bad, o); err != nil || !slices.ContainsFunc(reports[0].Plan.Notes, func(note string) bool { return strings.Contains(note, "annotation without effect") }) {
		t.Errorf("%v, %+v", err, reports)
	}
}

// Who ends a Job's proxy is said truly, and where nobody can see the work's end that is an error.
func TestWhatEndsAJobIsSaid(t *testing.T) {
	const name = "78-jobs-in-meshes"
	want := map[string]string{
		"by-kuma":     "Kuma's control plane ends the proxy with the work",
		"by-consul":   "ends the proxy and exits with fetch and upload",
		"by-app-mesh": "ends the proxy and exits with report",
	}
	_, reports, err := inject.File(name, shapes(t)[name], options(name))
	if err != nil || len(reports) != len(want) {
		t.Fatal(err, len(reports))
	}
	for _, r := range reports {
		if said := r.Plan.Shape(); !strings.HasSuffix(said, want[r.Object.Name]) {
			t.Errorf("%s: %s", r.Object.Name, said)
		}
	}
	blind := strings.ReplaceAll(string(shapes(t)[name]), ", ports: [{containerPort: 9102}]", "")
	_, _, err = inject.File(name, []byte(blind), options(name))
	for _, said := range []string{"fetch has no port. Nothing ends the proxy that consul adds but the agent", "report has no port. Nothing ends the proxy that appmesh adds"} {
		if err == nil || !strings.Contains(err.Error(), said) || strings.Contains(err.Error(), "by-kuma") {
			t.Errorf("%v, want %q", err, said)
		}
	}
}

// In the host's network the agent takes a port of the node: whoever puts another there has to know.
func TestThePortOfANodeIsSaid(t *testing.T) {
	const name = "15-daemonset-host"
	o := options(name)
	_, reports, err := inject.File(name, shapes(t)[name], o)
	if err != nil || !slices.ContainsFunc(reports[0].Plan.Notes, func(note string) bool { return strings.Contains(note, "takes port 9909 of every node") }) {
		t.Errorf("%v %q", err, reports[0].Plan.Notes)
	}
	o.Port = 9919
	out, _, err := inject.File(name, shapes(t)[name], o)
	if err != nil || !strings.Contains(string(out), "--listen=:9919\n") || strings.Contains(string(out), "9909") {
		t.Errorf("%v\n%s", err, out)
	}
	o.Port = 9909
	if _, _, err := inject.File("46-port-taken", shapes(t)["46-port-taken"], o); err == nil || !strings.Contains(err.Error(), "port 9909 is taken") {
		t.Error(err)
	}
}
