package manifest

import (
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Agents returns the names of the containers that are drain-agents: what drainctl and the webhook write has the name drain-agent, who
// writes manifests by hand may give another name and image, so image, command, flags and variables tell too.
func Agents(spec *corev1.PodSpec) []string {
	var names []string
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways && isAgent(c) { // others end before the app starts
			names = append(names, c.Name)
		}
	}
	for i := range spec.Containers {
		if isAgent(&spec.Containers[i]) {
			names = append(names, spec.Containers[i].Name)
		}
	}
	return names
}

// agentName is what the container, the program and its image are called.
const agentName = "drain-agent"

func isAgent(c *corev1.Container) bool {
	line := slices.Concat(c.Command, c.Args)
	program := len(c.Command) == 0 && imageName(c.Image) == agentName || len(c.Command) > 0 && path.Base(c.Command[0]) == agentName
	if program {
		line = line[min(len(c.Command), 1):]
		return len(line) == 0 || line[0] == "run" || strings.HasPrefix(line[0], "-") // not wait, probe, hook, install
	}
	if len(c.Command) == 0 && len(line) > 0 && line[0] != "run" {
		return false
	}
	return c.Name == agentName || slices.ContainsFunc(line, ownFlag) ||
		slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
			return e.Name == "DRAIN_AGENT_HOOKS" || e.Name == "DRAIN_AGENT_GRACE_PERIOD"
		})
}

// ownFlag reports whether a flag is one that only drain-agent has.
func ownFlag(arg string) bool {
	name, _, _ := strings.Cut(arg, "=")
	return slices.Contains([]string{"--stop-order", "--accept-loss", "--confirm-window", "--quiet-max", "--outlives-me"}, name)
}

// imageName is the last part of an image's repository: registry:5000/team/drain-agent:v1@sha256:… → drain-agent.
func imageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	name, _, _ := strings.Cut(path.Base(image), ":")
	return name
}
