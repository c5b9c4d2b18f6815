package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const envoyPod = `apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: NAME}}
spec:
  containers:
  - {name: envoy, image: "envoyproxy/envoy:v1.40.0"}
`

func podNamed(name string) string { return strings.ReplaceAll(envoyPod, "NAME", name) }

// injected are the names of the pods that got an agent, in the order of the text.
func injected(text string) string {
	var names []string
	for doc := range strings.SplitSeq(text, "\n---\n") {
		if _, rest, found := strings.Cut(doc, "metadata: {name: "); found && strings.Contains(doc, "- name: drain-agent\n") {
			names = append(names, strings.FieldsFunc(rest, func(r rune) bool { return r == ',' || r == '}' })[0])
		}
	}
	return strings.Join(names, " ")
}

func TestWorkloadsAreChosen(t *testing.T) {
	all := podNamed("a") + "---\n" + podNamed("b") + "---\n" + strings.Replace(podNamed("c"), "labels:", "annotations: {drain-agent.io/inject: \"false\"}, labels:", 1) +
		"---\napiVersion: v1\nkind: Pod\nmetadata: {name: plain}\nspec: {containers: [{name: a, image: b}]}\n"
	for args, want := range map[string]string{
		"":                            "a b",
		"--skip=a":                    "b",
		"--skip=pod/*":                "",
		"--skip=default/Pod/b":        "a",
		"--selector=app=b":            "b",
		"--selector=app in (a,b,c)":   "a b",
		"--selector=app!=b --skip=no": "a",
	} {
		command := []string{"inject", "-f", "-", "--token=T"}
		for arg := range strings.SplitSeq(args, " --") {
			if arg != "" {
				command = append(command, "--"+strings.TrimPrefix(arg, "--"))
			}
		}
		code, out, said := drainctl(t, all, command...)
		if code != exitOK || injected(out) != want {
			t.Errorf("%s: %d, %q, want %q\n%s", args, code, injected(out), want, said)
		}
		if strings.Count(said, "\n") < 4 || args == "" && !strings.Contains(said, "Pod c: left alone: its annotation drain-agent.io/inject: false") {
			t.Errorf("%s: not every pod has its line:\n%s", args, said)
		}
	}
	for _, bad := range []string{"--selector=a in", "--skip=[", "--role=a=b", "--shape=round", "--preset=moon", "--port=70000", "--agent-arg=--listen=:1"} {
		if code, out, said := drainctl(t, all, "inject", "-f", "-", bad); code != exitUsage || out != "" || !strings.Contains(said, bad[:6]) {
			t.Errorf("%s: %d %s", bad, code, said)
		}
	}
}

func TestOneBadDocumentDoesNotStopTheOthers(t *testing.T) {
	bad := "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {containers: 7}\n"
	all := podNamed("a") + "---\n" + bad + "---\n" + podNamed("b")
	code, out, said := drainctl(t, all, "inject", "-f", "-", "--token=T", "--keep-going")
	if code != exitUsage || injected(out) != "a b" || !strings.Contains(out, bad) || !strings.Contains(said, "-:11: document 2: Pod bad: spec.containers is a number, should be a list") {
		t.Errorf("%d %s\n%s", code, said, out)
	}
	if code, out, _ := drainctl(t, all, "inject", "-f", "-", "--token=T"); code != exitUsage || out != "" {
		t.Errorf("without --keep-going: %d %s", code, out)
	}
}

func TestWhatMakesPodsAndCannotBeEditedIsSaid(t *testing.T) {
	knative := "---\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: fn}\nspec: {template: {spec: {containers: [{image: a}]}}}\n"
	code, out, said := drainctl(t, podNamed("a")+knative, "inject", "-f", "-", "--token=T")
	if code != exitPassed || injected(out) != "a" || !strings.Contains(said, "Service fn: left alone: Knative") {
		t.Errorf("%d %s", code, said)
	}
	if code, _, said := drainctl(t, podNamed("a")+knative, "inject", "-f", "-", "--token=T", "--skip=service/fn"); code != exitOK || !strings.Contains(said, "--skip=service/fn") {
		t.Errorf("%d %s", code, said)
	}
	if code, _, said := drainctl(t, "hello: world\n", "inject", "-f", "-"); code != exitOK || !strings.Contains(said, "-:1: left alone: it is no Kubernetes object") {
		t.Errorf("%d %s", code, said)
	}
}

// A patch finds its object by a name.
func TestPatchOfAGenerateNameIsAnError(t *testing.T) {
	text := strings.Replace(podNamed("x"), "name: x", "generateName: x-", 1)
	if code, out, said := drainctl(t, text, "inject", "-f", "-", "--token=T", "--patch"); code != exitUsage || out != "" || !strings.Contains(said, "Pod x-* has a generateName alone") {
		t.Errorf("%d %s%s", code, out, said)
	}
	if code, out, said := drainctl(t, text, "inject", "-f", "-", "--token=T"); code != exitOK || !strings.Contains(out, "- name: drain-agent\n") || !strings.Contains(said, "Pod x-*: Envoy") {
		t.Errorf("%d %s%s", code, out, said)
	}
}

func TestJSONStreamComesOutWhole(t *testing.T) {
	stream := `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "envoy", "image": "envoyproxy/envoy:v1"}]}}
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}, "spec": {"containers": [{"name": "envoy", "image": "envoyproxy/envoy:v1"}]}}
`
	code, out, said := drainctl(t, stream, "inject", "-f", "-", "--token=T")
	if code != exitOK || strings.Count(out, "- name: drain-agent\n") != 4 || !strings.Contains(out, `{"apiVersion": "v1", "kind": "Service"`) {
		t.Fatalf("%d %s\n%s", code, said, out)
	}
	if code, back, said := drainctl(t, out, "uninject", "-f", "-"); code != exitOK || back != stream {
		t.Errorf("uninject: %d %s\n%s", code, said, back)
	}
}

// Files are read together: a Service, a Namespace and another workload in other files count.
func TestNeighboursOfOtherFilesCount(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a/pod.yaml":     podNamed("a"),
		"b/service.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: s, annotations: {service.beta.kubernetes.io/aws-load-balancer-type: nlb}}\nspec: {selector: {app: a}, ports: [{port: 80}]}\n",
		"h1.yaml":        strings.Replace(podNamed("h1"), "spec:\n", "spec:\n  hostNetwork: true\n", 1),
		"h2.yaml":        strings.Replace(podNamed("h2"), "spec:\n", "spec:\n  hostNetwork: true\n", 1),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, said := drainctl(t, "", "inject", "-f", dir, "-w"); code != exitOK {
		t.Fatalf("%d %s", code, said)
	}
	for name, want := range map[string]string{"a/pod.yaml": "--preset=nlb", "h1.yaml": "containerPort: 9909", "h2.yaml": "--listen=:9910"} {
		if text := readText(t, filepath.Join(dir, name)); !strings.Contains(text, want) {
			t.Errorf("%s does not say %s:\n%s", name, want, text)
		}
	}
}

func TestBudgetOfPodsWithoutTheAgent(t *testing.T) {
	const pod = `apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  terminationGracePeriodSeconds: 30 # since ever
  containers:
  - name: web
    image: web:1
    lifecycle: {preStop: {exec: {command: [sh, -c, "sleep 40 && /usr/sbin/nginx -s quit"]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: b}
spec:
  containers:
  - {name: web, image: "web:1", lifecycle: {preStop: {sleep: {seconds: 25}}}}
---
kind: Pod
metadata: {name: c}
spec: {containers: [{name: web, image: "web:1"}]}
`
	code, out, said := drainctl(t, pod, "budget", "-f", "-")
	for _, want := range []string{"Pod a (-)", "nothing is left", "raise the grace period to 55 s", "sleeps 25 s in every stop, then 5 s", "raise the grace period to 40 s", "no preStop hook", "change: nothing"} {
		if code != exitOK || !strings.Contains(out, want) {
			t.Errorf("%d %s: does not say %q:\n%s", code, said, want, out)
		}
	}
	code, out, said = drainctl(t, pod, "budget", "-f", "-", "--apply")
	want := strings.Replace(pod, "Seconds: 30 #", "Seconds: 55 #", 1)
	want = strings.Replace(want, "metadata: {name: b}\nspec:\n", "metadata: {name: b}\nspec:\n  terminationGracePeriodSeconds: 40\n", 1)
	if code != exitOK || out != want || !strings.Contains(said, "grace period 30 s") {
		t.Errorf("--apply: %d\n%s\n%s", code, out, said)
	}
	if code, again, _ := drainctl(t, out, "budget", "-f", "-", "--apply"); code != exitOK || again != out {
		t.Errorf("a second run changes something: %d\n%s", code, again)
	}
}

func TestBudgetAppliesToTheFlagOfTheAgentToo(t *testing.T) {
	_, with, _ := drainctl(t, podNamed("a"), "inject", "-q", "-f", "-", "--token=T", "--grace-period=10s")
	code, out, said := drainctl(t, with, "budget", "-f", "-", "--apply")
	if code != exitOK || strings.Contains(out, "=10s") || !strings.Contains(out, "--grace-period=25s\n") || !strings.Contains(out, "terminationGracePeriodSeconds: 25 #") {
		t.Errorf("%d %s\n%s", code, said, out)
	}
}

// A pod whose image nobody can pull waits for ever: who takes the default name is told, who names an image is not.
func TestInjectSaysThatNobodyCanPullTheDefaultImage(t *testing.T) {
	for image, want := range map[string]bool{"": true, "--image=registry.example/agent:1": false} {
		command := []string{"inject", "-f", "-", "--token=T"}
		if image != "" {
			command = append(command, image)
		}
		if _, _, said := drainctl(t, podNamed("a"), command...); strings.Contains(said, "no registry has "+unpublished) != want {
			t.Errorf("image %q: want the note %v\n%s", image, want, said)
		}
	}
	named := []string{"--image=registry.example/controller:1", "--agent-image=registry.example/agent:1"}
	for n := range 3 {
		if _, _, said := drainctl(t, "", append([]string{"install"}, named[:n]...)...); strings.Contains(said, "no registry has") != (n < 2) {
			t.Errorf("install %v: %s", named[:n], said)
		}
	}
}
