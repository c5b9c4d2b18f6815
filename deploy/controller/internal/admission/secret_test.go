package admission

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
)

// Whoever makes a pod, the audit log and our own log read what is wrong with its annotations, without what they hold.
func TestNothingSaidRepeatsASecret(t *testing.T) {
	const with = "http://u:s3cr3t@h/s3cr3t?s3cr3t"
	annotated := strings.Replace(pod, `"metadata": {`, `"metadata": {"annotations": {"drain-agent.io/preset": "`+with+`", "drain-agent.io/poll": "`+with+`",
		"drain-agent.io/app-drain-url": "`+with+`", "drain-agent.io/app-source": "prometheus:`+with+`#a", "drain-agent.io/nothing": "`+with+`"}, `, 1)
	for name, raw := range map[string]string{
		"injected":          annotated,
		"cannot be planned": strings.ReplaceAll(annotated, "app:1", "envoyproxy/envoy:v1"),
		"an agent of its own": strings.Replace(annotated, `"containers": [`, `"containers": [{"name": "drain-agent", "image": "drain-agent:1", "args": ["run", "`+with+
			`", "--poll=`+with+`", "--app-sourc=`+with+`"]}, `, 1),
	} {
		var log bytes.Buffer
		p := &Pods{Beside: &Beside{Cached: cluster{}}, Defaults: inject.Options{Image: "agent:1", Shape: "auto", Proxy: "auto"}, Log: slog.New(slog.NewJSONHandler(&log, nil))}
		w := &Workloads{Beside: p.Beside, Defaults: p.Defaults, Log: p.Log}
		var said strings.Builder
		for _, answer := range []admission.Response{p.Handle(t.Context(), ask(raw)), w.Handle(t.Context(), ask(raw))} {
			fmt.Fprintln(&said, answer.Warnings, answer.AuditAnnotations, answer.Result)
		}
		if said.WriteString(log.String()); !strings.Contains(said.String(), "drain-agent.io/preset") && !strings.Contains(said.String(), "agent-arguments") {
			t.Errorf("%s: the test sees nothing: %s", name, said.String())
		}
		if strings.Contains(said.String(), "s3cr3t") {
			t.Errorf("%s: %s", name, said.String())
		}
	}
}
