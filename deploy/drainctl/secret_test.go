package main

import (
	"strings"
	"testing"
)

// guarded is a pod whose agent was given secrets wherever a flag takes a URL, rightly and wrongly.
const guarded = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
      annotations:
        drain-agent.io/app-source: "prometheus:http://u:s3cr3t@127.0.0.1:8080/s3cr3t?s3cr3t#a"
        drain-agent.io/app-drain-url: "http://u:s3cr3t@127.0.0.1:8080/s3cr3t?s3cr3t"
        drain-agent.io/preset: "http://u:s3cr3t@h/s3cr3t"
        drain-agent.io/poll: "http://u:s3cr3t@h/s3cr3t"
    spec:
      terminationGracePeriodSeconds: 10
      initContainers:
      - name: drain-agent
        image: drain-agent:1
        restartPolicy: Always
        args: [run, --app-drain-url, "http://u:s3cr3t@127.0.0.1:8080/s3cr3t?s3cr3t", "http://u:s3cr3t@h/s3cr3t?s3cr3t", "--app-sourc=http://u:s3cr3t@h/s3cr3t",
          "--app-source=prometheus:http://u:s3cr3t@127.0.0.1:8080/s3cr3t?s3cr3t#a", "--poll=http://u:s3cr3t@h/s3cr3t", "--preset=http://h/s3cr3t?s3cr3t"]
        env:
        - {name: DRAIN_AGENT_SETTLE, value: "http://u:s3cr3t@h/s3cr3t"}
        - {name: DRAIN_AGENT_APP_SOURCE, value: "http://u:s3cr3t@h/s3cr3t"}
      containers:
      - name: app
        image: app:1
        ports: [{containerPort: 8080}]
        lifecycle: {preStop: {exec: {command: [sh, -c, "curl -X POST http://u:s3cr3t@127.0.0.1:8080/s3cr3t?s3cr3t; sleep 5"]}}}
      - name: envoy
        image: envoyproxy/envoy:v1.40.0
        args: [--config-path, /etc/envoy/envoy.yaml]
`

// The manifest that inject writes has what its flags say; nothing else that drainctl prints does.
func TestNothingSaidRepeatsASecret(t *testing.T) {
	bare := strings.NewReplacer("drain-agent:1", "other:1", "name: drain-agent", "name: other").Replace(guarded)
	const with = "http://u:s3cr3t@127.0.0.1:1/s3cr3t?s3cr3t"
	for _, row := range []struct {
		stdin string
		args  []string
		finds string // so that the test sees something
	}{
		{guarded, []string{"lint", "-f", "-", "--advice", "--explain"}, "agent-arguments"},
		{guarded, []string{"lint", "-f", "-", "--advice", "-o", "json"}, "agent-arguments"},
		{guarded, []string{"lint", "-f", "-", "-o", "sarif"}, "agent-arguments"},
		{guarded, []string{"lint", "-f", "-", "-o", "github"}, "agent-arguments"},
		{guarded, []string{"lint", "-f", "-", "-o", "junit"}, "agent-arguments"},
		{guarded, []string{"budget", "-f", "-"}, "unknown"},
		{bare, []string{"lint", "-f", "-", "--advice"}, "agent-annotation"},
		{bare, []string{"budget", "-f", "-"}, ""},
		{bare, []string{"inject", "-f", "-"}, "drain-agent.io/preset"},
		{bare, []string{"inject", "-f", "-", "--preset=" + with}, "--preset"},
		{bare, []string{"inject", "-f", "-", "--agent-arg=--poll=" + with}, ""},
		{bare, []string{"inject", "-f", "-", "--role=" + with}, "--role"},
		{bare, []string{"inject", "-f", "-", "--port=" + with}, "--port"},
		{bare, []string{"inject", with}, "unknown"},
		{"", []string{"lint", "-f", with}, ""},
		{"", []string{"timeline", with}, ""},
		{"", []string{"verify", "deploy/web", "--kubeconfig=/nowhere", "--url=" + with}, ""},
		{"", []string{"verify", "deploy/web", "--url=" + with, "--header=s3cr3t"}, ""},
		{"", []string{"verify", with}, ""},
	} {
		code, out, said := drainctl(t, row.stdin, row.args...)
		if row.args[0] == "inject" && code == exitOK {
			out = "" // the manifest
		}
		if said += out; said == "" || !strings.Contains(said, row.finds) {
			t.Errorf("%q: says %d, %q: the test sees nothing", row.args, code, said)
		}
		if i := strings.Index(said, "s3cr3t"); i >= 0 {
			t.Errorf("%q: …%s…", row.args, said[max(0, i-150):min(len(said), i+40)])
		}
	}
}
