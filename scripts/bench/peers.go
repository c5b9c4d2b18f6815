package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drain-agent/drain-agent/scripts/cached"
	"github.com/drain-agent/drain-agent/scripts/demo/demopod"
)

const demoAdmin = "socket_address: {address: 127.0.0.1, port_value: 15000}"

// gateways returns the same pod without an app to wait for, stopped in four ways: by drain-agent, by the shutdown managers of
// Envoy Gateway and of Contour as their controllers deploy them, and by a sleep. It builds the managers the first time.
func (b *bench) gateways(ctx context.Context) ([]variant, error) {
	gateway, err := cached.EnvoyGateway(ctx)
	if err != nil {
		return nil, err
	}
	contour, err := cached.Contour(ctx)
	if err != nil {
		return nil, err
	}
	images := maps.Clone(b.stage.Images)
	images["envoy-gateway"], images["contour"] = gateway, contour
	on := func(admin string) *demopod.Stage {
		stage := *b.stage
		stage.Images, stage.Bootstrap = images, strings.Replace(stage.Bootstrap, demoAdmin, admin, 1)
		return &stage
	}
	return []variant{
		{who: "drain-agent", helper: "agent", stage: on(demoAdmin), manifest: b.gatewayWithAgent},
		{
			who: "Envoy Gateway " + cached.EnvoyGatewayVersion, helper: "manager", stage: on("socket_address: {address: 127.0.0.1, port_value: 19000}"),
			manifest: func() (*corev1.Pod, error) {
				return b.gatewayWithManager("/shutdown/ready", 19002, "/tmp", "envoy-gateway", "envoy", "shutdown-manager")
			},
		},
		{
			who: "Contour " + cached.ContourVersion, helper: "manager", stage: on("pipe: {path: /admin/admin.sock}"),
			manifest: func() (*corev1.Pod, error) { // its port is 8090, which our app has
				return b.gatewayWithManager("/shutdown", 8091, "/admin", "contour", "envoy", "shutdown-manager", "--serve-port=8091")
			},
		},
		{who: "sleep 15", stage: on(demoAdmin), manifest: func() (*corev1.Pod, error) {
			manifest, proxy, err := b.gateway()
			if err == nil {
				proxy.Lifecycle = preStop(corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 15}})
			}
			return manifest, err
		}},
	}, nil
}

// gateway returns a pod whose only regular container is Envoy; the app stands for backends elsewhere: it starts first and ends last.
func (b *bench) gateway() (manifest *corev1.Pod, proxy *corev1.Container, err error) {
	if manifest, err = b.stage.Plain(); err != nil {
		return nil, nil, err
	}
	spec := &manifest.Spec
	spec.InitContainers, spec.Containers = spec.Containers, spec.InitContainers
	spec.InitContainers[0].RestartPolicy, spec.Containers[0].RestartPolicy = new(corev1.ContainerRestartPolicyAlways), nil
	spec.TerminationGracePeriodSeconds = new(int64(300))
	return manifest, &spec.Containers[0], nil
}

func (b *bench) gatewayWithAgent() (*corev1.Pod, error) {
	manifest, proxy, err := b.gateway()
	if err != nil {
		return nil, err
	}
	with, err := b.stage.WithAgent()
	if err != nil {
		return nil, err
	}
	agent := with.Spec.InitContainers[0]
	agent.Args = []string{
		"run", "--grace-period=300s", "--hooks=proxy,agent", "--stop-order=proxy", "--app-source=none", "--envoy-admin=http://127.0.0.1:15000",
	}
	manifest.Spec.InitContainers = append(manifest.Spec.InitContainers, agent)
	manifest.Spec.Volumes = with.Spec.Volumes
	proxy.Lifecycle = httpHook("/prestop/proxy", 9909)
	return manifest, nil
}

// gatewayWithManager adds a shutdown manager whose own hook, the command with "shutdown", drains Envoy, and whose port answers
// Envoy's hook when that is done. They share a folder.
func (b *bench) gatewayWithManager(path string, port int, shared string, command ...string) (*corev1.Pod, error) {
	manifest, proxy, err := b.gateway()
	if err != nil {
		return nil, err
	}
	spec := &manifest.Spec
	mount := corev1.VolumeMount{Name: "shared", MountPath: shared}
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "shared", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	proxy.Lifecycle = httpHook(path, port)
	proxy.VolumeMounts = append(proxy.VolumeMounts, mount)
	spec.Containers = append(spec.Containers, corev1.Container{
		Name: "manager", Image: command[0], Command: command[:1], Args: command[1:], VolumeMounts: []corev1.VolumeMount{mount},
		Lifecycle: preStop(corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{command[0], "envoy", "shutdown"}}}),
	})
	return manifest, nil
}

func httpHook(path string, port int) *corev1.Lifecycle {
	return preStop(corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt(port)}})
}

func preStop(handler corev1.LifecycleHandler) *corev1.Lifecycle {
	return &corev1.Lifecycle{PreStop: &handler}
}

// peers measures them side by side.
func (b *bench) peers(ctx context.Context) (all []figure, err error) {
	variants, err := b.gateways(ctx)
	if err != nil {
		return nil, err
	}
	for _, q := range questions() {
		f := figure{Name: "gateway: " + q.name, Unit: q.unit}
		for _, v := range variants {
			if q.helper && v.helper == "" {
				continue
			}
			v.steady = v.steady || q.steady
			r, err := b.sample(ctx, v, q.measure(v))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", q.name, err)
			}
			f.Rows = append(f.Rows, r)
		}
		all = append(all, f)
	}
	return all, nil
}

var errNotIsolated = errors.New("the managers' ports and files are fixed: their pods need namespaces, so root on Linux")
