package ledger

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func podOf(t testing.TB, text string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(text), pod); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return pod
}

func TestWhichContainerIsTheAgent(t *testing.T) {
	app := "  - {name: app, image: a}\n"
	for text, want := range map[string]string{
		"spec:\n  containers:\n" + app + "  - {name: drain-agent, image: ghcr.io/drain-agent/drain-agent:v1}":                                 "drain-agent",
		"spec:\n  initContainers:\n  - {name: drain-agent, image: x, restartPolicy: Always, args: [run, --hooks=app]}\n  containers:\n" + app: "drain-agent",
		"spec:\n  initContainers:\n  - {name: drain-agent, image: drain-agent, args: [install, /x]}\n  containers:\n" + app:                   "",
		"spec:\n  containers:\n" + app + "  - {name: guard, image: 'mirror:5000/t/drain-agent:v1@sha256:0'}":                                  "guard",
		"spec:\n  containers:\n" + app + "  - {name: guard, image: own, command: [/run/drain-agent/drain-agent, run]}":                        "guard",
		"spec:\n  containers:\n" + app + "  - {name: guard, image: own, args: ['--stop-order=app,proxy']}":                                    "",
		"spec:\n  containers:\n" + app + "  - {name: guard, image: own, args: [run, '--stop-order=app,proxy']}":                               "guard",
		"spec:\n  containers:\n" + app + "  - {name: guard, image: own, env: [{name: DRAIN_AGENT_HOOKS, value: app}]}":                        "guard",
		"spec:\n  containers:\n" + app + "  - {name: waits, image: drain-agent, args: [wait]}":                                                "",
		"spec:\n  containers:\n" + app + "  - {name: other, image: 'x/drain-agent-exporter:1'}":                                               "",
		"spec:\n  containers:\n" + app + "  - {name: tool, image: own, command: [sh, -c, 'drain-agent status']}":                              "",
		"spec:\n  containers:\n" + app + "  - {name: drain-agent, image: own, command: [/bin/sleep, '1']}":                                    "drain-agent",
		"spec:\n  containers:\n  - {name: app, image: a, lifecycle: {preStop: {exec: {command: [/run/drain-agent/drain-agent, hook, app]}}}}": "",
	} {
		pod := podOf(t, text)
		stripped, err := strip(pod)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := strip(stripped)
		if got := again.(*corev1.Pod).Annotations[agentsKey]; got != want {
			t.Errorf("%s\nagent %q, want %q", text, got, want)
		}
	}
}
