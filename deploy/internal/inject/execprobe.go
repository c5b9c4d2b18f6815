package inject

import (
	"cmp"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// execProbe is a probe that the binary in the container asks, in place of kubelet, which has no certificate of the mesh.
type execProbe struct {
	Kind    string // startupProbe, readinessProbe or livenessProbe
	Command []string
	Fields  [][2]any // of the probe that it takes the place of
}

// inside turns a probe of a port that stays behind the proxy into one that the container asks itself: 127.0.0.1 is redirected
// nowhere.
func inside(kind string, port int32, probe *corev1.Probe) execProbe {
	timeout := cmp.Or(probe.TimeoutSeconds, 1)
	command := []string{sharedDir + "/drain-agent", "probe"}
	if timeout > 1 {
		command = append(command, fmt.Sprintf("--timeout=%ds", timeout))
	}
	switch get := probe.HTTPGet; {
	case get != nil:
		for _, header := range get.HTTPHeaders {
			command = append(command, "--header="+header.Name+": "+header.Value)
		}
		scheme := strings.ToLower(cmp.Or(string(get.Scheme), "http"))
		command = append(command, fmt.Sprintf("%s://127.0.0.1:%d/%s", scheme, port, strings.TrimPrefix(get.Path, "/")))
	case probe.GRPC != nil:
		if probe.GRPC.Service != nil && *probe.GRPC.Service != "" {
			command = append(command, "--service="+*probe.GRPC.Service)
		}
		command = append(command, fmt.Sprintf("127.0.0.1:%d", port))
	default:
		command = append(command, fmt.Sprintf("tcp://127.0.0.1:%d", port))
	}
	p := execProbe{Kind: kind, Command: command, Fields: [][2]any{{"timeoutSeconds", timeout + 1}}} // the process has to start too
	for _, field := range []struct {
		name  string
		value int32
	}{
		{"initialDelaySeconds", probe.InitialDelaySeconds},
		{"periodSeconds", probe.PeriodSeconds},
		{"successThreshold", probe.SuccessThreshold},
		{"failureThreshold", probe.FailureThreshold},
	} {
		if field.value != 0 {
			p.Fields = append(p.Fields, [2]any{field.name, field.value})
		}
	}
	if g := probe.TerminationGracePeriodSeconds; g != nil {
		p.Fields = append(p.Fields, [2]any{"terminationGracePeriodSeconds", *g})
	}
	return p
}
