package main

import (
	"context"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// deployment is one with this pod's spec.
func deployment(spec string) string {
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {generateName: web-}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:" +
		strings.ReplaceAll(spec, "\n", "\n    ") + "\n"
}

const (
	badHook = `
  terminationGracePeriodSeconds: 10
  containers:
  - name: app
    image: registry.example/web:1
    lifecycle: {preStop: {exec: {command: [sleep, "20"]}}}`
	twoEnvoys = `
  containers:
  - {name: app, image: "registry.example/web:1"}
  - {name: one, image: "envoyproxy/envoy:v1.40.0"}
  - {name: two, image: "envoyproxy/envoy:v1.40.0"}`
	unmodified = `
  containers:
  - {name: app, image: "registry.example/web:1", ports: [{containerPort: 8080}]}
  - {name: envoy, image: "envoyproxy/envoy:v1.40.0"}`
)

func (s *server) try(t *testing.T, namespace, text string) (said string, err error) {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	o.SetNamespace(namespace)
	s.warnings.take()
	err = s.client.Create(context.WithoutCancel(t.Context()), o)
	return s.warnings.take(), err
}

// Who applies a Deployment reads what lint says of the pods that will come out of it, and why one gets no agent. Nothing is refused
// unless a value asks for that.
func TestWarningsForWorkloads(t *testing.T) {
	s := apiServer(t)
	run := s.controller(t)
	on, off := s.namespace(t, labelled, nil), s.namespace(t, nil, nil)
	for name, row := range map[string]struct{ namespace, spec, want string }{
		"a mistake":             {on, badHook, "drain-agent: sleep-over-grace: "},
		"no agent, and why":     {on, twoEnvoys, "two containers look like Envoy"},
		"what inject will mend": {on, unmodified, ""},
		"no label, no warning":  {off, badHook, ""},
		"a port of every node":  {on, "\n  hostNetwork: true" + unmodified, "the agent takes port 9909 of every node"},
	} {
		t.Run(name, func(t *testing.T) {
			said, err := s.try(t, row.namespace, deployment(row.spec))
			if err != nil || !strings.Contains(said, row.want) || row.want == "" && said != "" {
				t.Errorf("%v, warnings %q, want %q", err, said, row.want)
			}
		})
	}
	run.stop()
	s.controller(t, "--lint-deny")
	if said, err := s.try(t, on, deployment(badHook)); err == nil || !strings.Contains(err.Error(), "drain-agent: 1 mistakes") || !strings.Contains(said, "sleep-over-grace") {
		t.Errorf("with --lint-deny: %v, warnings %q", err, said)
	}
	if _, err := s.try(t, on, deployment(unmodified)); err != nil {
		t.Errorf("with --lint-deny: %v", err)
	}
}

// The rules of the policy are rules of lint, said by the API server alone.
func TestPolicy(t *testing.T) {
	s := apiServer(t)
	text := readFile(t, "../chart/policy.yaml")
	if err := s.apply(text); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, kind := range []string{"ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"} {
			o := &unstructured.Unstructured{}
			o.SetAPIVersion("admissionregistration.k8s.io/v1")
			o.SetKind(kind)
			o.SetName("drain-agent-lint")
			if err := s.client.Delete(context.WithoutCancel(t.Context()), o); err != nil {
				t.Error(err)
			}
		}
	})
	ns := s.namespace(t, nil, nil)
	hook := func(get string) string {
		return "\n  containers:\n  - name: app\n    image: a:1\n    ports: [{name: web, containerPort: 80}]\n    lifecycle: {preStop: {httpGet: {" + get + "}}}"
	}
	eventually(t, "the policy is in force", func() error {
		said, err := s.try(t, ns, deployment(hook("path: /x, port: 80, host: localhost")))
		if err == nil && !strings.Contains(said, "hook-host") {
			return errNotYet
		}
		return err
	})
	for spec, want := range map[string]string{
		"\n  terminationGracePeriodSeconds: 0" + hook("path: /x, port: 80"):   "grace-zero",
		hook("path: /x, port: nobody"):                                        "hook-port-name",
		hook("path: /x, port: web"):                                           "",
		hook("path: /x, port: 80, host: 127.0.0.1"):                           "hook-host",
		"\n  hostNetwork: true" + hook("path: /x, port: 80"):                  "host-network",
		"\n  hostNetwork: true" + hook("path: /x, port: 80, host: 127.0.0.1"): "",
		hook(`path: "/drain_listeners?graceful", port: 15000`):                "hook-to-admin",
		unmodified: "",
	} {
		said, err := s.try(t, ns, deployment(spec))
		if err != nil || !strings.Contains(said, want) || want == "" && said != "" || strings.Count(said, "\n") > 0 {
			t.Errorf("%s\n%v, warnings %q, want %q", spec, err, said, want)
		}
	}
}
