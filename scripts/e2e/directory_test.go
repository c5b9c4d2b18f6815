//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

// TestInjectDirectory does what a new user does: an Envoy beside each app, then drainctl inject -f DIR, and nothing else said. The
// manifests are those of testdata/directory, shaped as public ones are; with CORPUS, a folder of public manifests, those of Online
// Boutique and of Bookinfo themselves. Only what the node has not is exchanged: images, accounts, and the paths of their probes.
//
//	CORPUS=DIR scripts/e2e/run --keep -run TestInjectDirectory
func TestInjectDirectory(t *testing.T) {
	t.Parallel()
	ns := namespace(t, "baseline")
	dir := t.TempDir()
	patterns, rolled := []string{"testdata/directory/*.yaml"}, []string{"frontend", "reviews-v1"}
	if corpus := os.Getenv("CORPUS"); corpus != "" {
		patterns = []string{corpus + "/online-boutique-kubernetes-manifests_*.yaml", corpus + "/istio-samples-samples_bookinfo_platform_kube_bookinfo.yaml"}
		rolled = []string{"frontend", "productpage-v1"}
	}
	written := 0
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no manifests (%v)", pattern, err)
		}
		for _, file := range files {
			for name, text := range besideEnvoy(t, file, ns) {
				if err := os.WriteFile(filepath.Join(dir, name+".yaml"), text, 0o600); err != nil {
					t.Fatal(err)
				}
				written++
			}
		}
	}
	said, err := exec.CommandContext(t.Context(), "go", "run", "../../deploy/drainctl", "inject", "-f", dir, "-w").CombinedOutput()
	t.Logf("drainctl inject -f DIR -w, %d workloads:\n%s", written, said)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(dir + "/*.yaml")
	if err != nil || len(files) != written {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		if out, err := kubectlCommand(t.Context(), "apply", "-n", ns, "--dry-run=server", "--validate=strict", "-f", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", filepath.Base(file), err, out)
		}
	}
	for _, name := range rolled {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(dir, name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			w := parse(t, text, ns)
			w.proxy = "envoy"
			w.replicas(2).start(t)
			lostNothing(t, roll(t, w, max(1, *rollouts/3), func(p *openloop.Plan) { p.Rate, p.Slow = 50, 50 }))
		})
	}
}

// besideEnvoy adds to every Deployment of a file that a Service selects what its users would add: an Envoy, its configuration, and a
// Service that leads to it. It returns one text for each of them.
func besideEnvoy(t *testing.T, file, ns string) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var apps []*appsv1.Deployment
	var services []*corev1.Service
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var kind metav1.TypeMeta
		decode(t, document, &kind, yaml.Unmarshal)
		switch kind.Kind {
		case "Deployment":
			apps = append(apps, &appsv1.Deployment{})
			decode(t, document, apps[len(apps)-1], yaml.Unmarshal)
		case "Service":
			services = append(services, &corev1.Service{})
			decode(t, document, services[len(services)-1], yaml.Unmarshal)
		}
	}
	texts := map[string][]byte{}
	for _, app := range apps {
		i := slices.IndexFunc(services, func(s *corev1.Service) bool {
			return labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(app.Spec.Template.Labels))
		})
		if i < 0 {
			continue // it serves nobody
		}
		service := services[i].DeepCopy()
		addEnvoy(t, app, service)
		var parts []string
		for _, object := range []any{envoyConfig(t, app), app, service} {
			object.(metav1.Object).SetNamespace(ns)
			part, err := yaml.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, string(part))
		}
		texts[app.Name] = []byte(strings.Join(parts, "---\n"))
	}
	return texts
}

// addEnvoy puts the Envoy behind the app's container, as an ordinary one, ready when the app answers through it.
func addEnvoy(t *testing.T, app *appsv1.Deployment, service *corev1.Service) {
	t.Helper()
	spec := &app.Spec.Template.Spec
	spec.ServiceAccountName, spec.InitContainers = "", nil // neither their accounts nor what they wait for is here
	c := &spec.Containers[0]
	c.Image, c.ImagePullPolicy, c.Command = "ghcr.io/drain-agent/drain-agent-app:v0.1.0-dev", corev1.PullIfNotPresent, nil
	c.Args = []string{fmt.Sprintf("--port=%d", c.Ports[0].ContainerPort), "--mgmt-port=8099"}
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
		switch {
		case probe == nil:
		case probe.HTTPGet != nil:
			probe.HTTPGet.Path = "/work?ms=0"
		case probe.Exec != nil:
			probe.ProbeHandler = corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(c.Ports[0].ContainerPort)}}
		}
	}
	envoy := load(t, "native", "any").container("proxy").DeepCopy()
	envoy.Name, envoy.RestartPolicy, envoy.Lifecycle, envoy.StartupProbe = "envoy", nil, nil, nil
	envoy.ReadinessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/work?ms=0", Port: intstr.FromInt32(8000)}},
		PeriodSeconds: 2,
	}
	spec.Containers = append(spec.Containers, *envoy)
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "envoy", VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: app.Name + "-envoy"}},
	}})
	for i := range service.Spec.Ports {
		service.Spec.Ports[i].TargetPort = intstr.FromInt32(8000)
	}
}

// envoyConfig is that of deploy/envoy, led to the app's port.
func envoyConfig(t *testing.T, app *appsv1.Deployment) *corev1.ConfigMap {
	t.Helper()
	config := load(t, "native", "any").configs[0]
	config.Name = app.Name + "-envoy"
	port := app.Spec.Template.Spec.Containers[0].Ports[0].ContainerPort
	for key, text := range config.Data {
		config.Data[key] = strings.Replace(text, "port_value: 8080", fmt.Sprintf("port_value: %d", port), 1)
	}
	return config
}
