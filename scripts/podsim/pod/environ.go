package pod

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

var (
	reference   = regexp.MustCompile(`\$?\$\([A-Za-z_.-][A-Za-z0-9_.-]*\)`)
	mapFieldRef = regexp.MustCompile(`^metadata\.(labels|annotations)\['([^']+)'\]$`)
)

// environment returns the variables of a container in the order of the manifest, references expanded.
func environment(pod *corev1.Pod, ip string, c corev1.Container) (map[string]string, error) {
	env := map[string]string{"PATH": defaultPath, "HOME": "/root", "HOSTNAME": pod.Name}
	if len(c.EnvFrom) > 0 {
		return nil, fmt.Errorf("container %s: envFrom is not known here", c.Name)
	}
	for _, v := range c.Env {
		value := expand(v.Value, env)
		if v.ValueFrom != nil {
			if v.ValueFrom.FieldRef == nil {
				return nil, fmt.Errorf("container %s, env %s: of valueFrom only fieldRef is known here", c.Name, v.Name)
			}
			var err error
			if value, err = fieldValue(pod, ip, v.ValueFrom.FieldRef.FieldPath); err != nil {
				return nil, fmt.Errorf("container %s, env %s: %w", c.Name, v.Name, err)
			}
		}
		env[v.Name] = value
	}
	return env, nil
}

func fieldValue(pod *corev1.Pod, ip, path string) (string, error) {
	if match := mapFieldRef.FindStringSubmatch(path); match != nil {
		if match[1] == "labels" {
			return pod.Labels[match[2]], nil
		}
		return pod.Annotations[match[2]], nil
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "status.podIP", "status.podIPs":
		return ip, nil
	case "spec.nodeName", "status.hostIP", "status.hostIPs":
		return "localhost", nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	}
	return "", fmt.Errorf("fieldRef %s is not known", path)
}

// expand replaces $(NAME) by its value as kubelet does: unknown names stay, $$(NAME) is the text $(NAME).
func expand(text string, env map[string]string) string {
	return reference.ReplaceAllStringFunc(text, func(ref string) string {
		if escaped, ok := strings.CutPrefix(ref, "$$"); ok {
			return "$" + escaped
		}
		if value, ok := env[ref[2:len(ref)-1]]; ok {
			return value
		}
		return ref
	})
}

func expandAll(texts []string, env map[string]string) []string {
	var out []string
	for _, text := range texts {
		out = append(out, expand(text, env))
	}
	return out
}
