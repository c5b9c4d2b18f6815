package pod

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Load reads a file of YAML documents and returns its Pod, or the template of its Deployment as a Pod, and the texts of
// its ConfigMaps by name and file. Other kinds are passed over. It fails when there is not exactly one of the former.
func Load(path string) (*corev1.Pod, map[string]map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("load manifest: %w", err)
	}
	var pods []*corev1.Pod
	configs := map[string]map[string]string{}
	for i, doc := range bytes.Split(append([]byte("\n"), text...), []byte("\n---")) {
		pod, err := loadDocument(doc, configs)
		if err != nil {
			return nil, nil, fmt.Errorf("load manifest %s, document %d: %w", path, i+1, err)
		}
		if pod != nil {
			pods = append(pods, pod)
		}
	}
	if len(pods) != 1 {
		return nil, nil, fmt.Errorf("load manifest %s: want one Pod or Deployment, found %d", path, len(pods))
	}
	return pods[0], configs, nil
}

func loadDocument(doc []byte, configs map[string]map[string]string) (*corev1.Pod, error) {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &kind); err != nil {
		return nil, err
	}
	switch kind.Kind {
	case "Pod":
		pod := &corev1.Pod{}
		return pod, yaml.UnmarshalStrict(doc, pod)
	case "Deployment":
		deployment := &appsv1.Deployment{}
		err := yaml.UnmarshalStrict(doc, deployment)
		pod := &corev1.Pod{ObjectMeta: deployment.Spec.Template.ObjectMeta, Spec: deployment.Spec.Template.Spec}
		pod.Name, pod.Namespace = deployment.Name+"-0", deployment.Namespace
		return pod, err
	case "ConfigMap":
		config := &corev1.ConfigMap{}
		err := yaml.UnmarshalStrict(doc, config)
		configs[config.Name] = config.Data
		return nil, err
	}
	return nil, nil
}

// setDefaults fills in what the API server would.
func setDefaults(pod *corev1.Pod, options *Options) {
	spec := &pod.Spec
	if pod.Name == "" {
		pod.Name = "pod"
	}
	if pod.Namespace == "" {
		pod.Namespace = "default"
	}
	if spec.TerminationGracePeriodSeconds == nil {
		spec.TerminationGracePeriodSeconds = new(int64(30))
	}
	if spec.RestartPolicy == "" {
		spec.RestartPolicy = corev1.RestartPolicyAlways
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if list[i].TerminationMessagePath == "" {
				list[i].TerminationMessagePath = corev1.TerminationMessagePathDefault
			}
			for _, probe := range []*corev1.Probe{list[i].StartupProbe, list[i].LivenessProbe, list[i].ReadinessProbe} {
				setProbeDefaults(probe)
			}
		}
	}
	if options.Relist == 0 {
		options.Relist = time.Second
	}
	if options.BackOff == 0 {
		options.BackOff = 10 * time.Second
	}
}

func setProbeDefaults(probe *corev1.Probe) {
	if probe == nil {
		return
	}
	for field, value := range map[*int32]int32{
		&probe.TimeoutSeconds: 1, &probe.PeriodSeconds: 10, &probe.SuccessThreshold: 1, &probe.FailureThreshold: 3,
	} {
		if *field == 0 {
			*field = value
		}
	}
}

// validate names everything that would not be run as kubelet runs it.
func validate(pod *corev1.Pod, options Options) error {
	var all []error
	complain := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if len(pod.Spec.Containers) == 0 {
		complain("spec.containers is empty")
	}
	if pod.Spec.HostNetwork || pod.Spec.HostPID {
		complain("hostNetwork and hostPID are not known here")
	}
	volumes := map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = true
		if err := volumeKnown(v, options); err != nil {
			all = append(all, err)
		}
	}
	names := map[string]bool{}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range list {
			if c.Name == "" || names[c.Name] {
				complain("container name %q is empty or used twice", c.Name)
			}
			names[c.Name] = true
			for _, m := range c.VolumeMounts {
				if !volumes[m.Name] {
					complain("container %s mounts volume %q, which spec.volumes lacks", c.Name, m.Name)
				}
				if m.SubPathExpr != "" {
					complain("container %s: subPathExpr is not known here", c.Name)
				}
			}
			if _, err := environment(pod, "", c); err != nil {
				all = append(all, err)
			}
		}
	}
	return errors.Join(all...)
}

func volumeKnown(v corev1.Volume, options Options) error {
	if options.Volumes[v.Name] != "" || v.EmptyDir != nil {
		return nil
	}
	name := configName(v)
	if name == "" {
		return fmt.Errorf("volume %s: only emptyDir, configMap and secret are known here; name a folder in Options.Volumes", v.Name)
	}
	if options.ConfigMaps[name] == nil {
		return fmt.Errorf("volume %s: %s is not in Options.ConfigMaps", v.Name, name)
	}
	return nil
}

// configName returns the name of the ConfigMap or Secret behind a volume, empty for other kinds.
func configName(v corev1.Volume) string {
	switch {
	case v.ConfigMap != nil:
		return v.ConfigMap.Name
	case v.Secret != nil:
		return v.Secret.SecretName
	}
	return ""
}
