package pod

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/scripts/freeport"
)

// makeVolumes makes a folder per volume and fills those of ConfigMaps and Secrets.
func (p *Pod) makeVolumes() error {
	p.volumes = map[string]string{}
	for _, v := range p.manifest.Spec.Volumes {
		if dir := p.options.Volumes[v.Name]; dir != "" {
			p.volumes[v.Name] = dir
			continue
		}
		dir := p.path("volumes", v.Name)
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o777); err != nil { // whatever the umask: any user of the pod may write
			return err
		}
		p.volumes[v.Name] = dir
		for name, text := range p.options.ConfigMaps[configName(v)] {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(p.remapPorts(text)), 0o644); err != nil {
				return err
			}
		}
	}
	return os.MkdirAll(p.path("root"), 0o755) // where a container's root is put together
}

// source returns the folder or file of this machine behind a mount.
func (p *Pod) source(m corev1.VolumeMount) string {
	return filepath.Join(p.volumes[m.Name], m.SubPath)
}

// mapPorts finds a free port for every declared one (mode Ports).
func (p *Pod) mapPorts() error {
	p.ports = map[int]int{}
	var declared []int
	for _, list := range [][]corev1.Container{p.manifest.Spec.InitContainers, p.manifest.Spec.Containers} {
		for _, c := range list {
			for _, port := range c.Ports {
				declared = append(declared, int(port.ContainerPort))
			}
		}
	}
	free, err := freeport.Find(len(declared))
	for i := range free {
		p.ports[declared[i]] = free[i]
	}
	return err
}

var number = regexp.MustCompile(`\b\d+\b`)

// remapPorts replaces every number in text that is a declared port (mode Ports).
func (p *Pod) remapPorts(text string) string {
	if len(p.ports) == 0 {
		return text
	}
	return number.ReplaceAllStringFunc(text, func(digits string) string {
		if n, err := strconv.Atoi(digits); err == nil && p.ports[n] != 0 {
			return strconv.Itoa(p.ports[n])
		}
		return digits
	})
}

// rewrite puts real paths and ports into a text of the manifest (mode Ports).
func (p *Pod) rewrite(c *container, text string) string {
	if p.sandbox != nil {
		return text
	}
	text = p.remapPorts(text)
	for _, m := range c.spec.VolumeMounts {
		text = strings.ReplaceAll(text, m.MountPath, p.source(m))
	}
	return strings.ReplaceAll(text, c.spec.TerminationMessagePath, p.messageFile(c))
}

func (p *Pod) messageFile(c *container) string { return p.path("messages", c.spec.Name) }

// resetMessage makes an empty termination log that any user may write.
func (p *Pod) resetMessage(c *container) error {
	if err := os.MkdirAll(p.path("messages"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(p.messageFile(c), nil, 0o666); err != nil {
		return err
	}
	return os.Chmod(p.messageFile(c), 0o666)
}

// maxMessage is what kubelet keeps of a termination log, in bytes.
const maxMessage = 4096

func (p *Pod) readMessage(c *container) string {
	text, err := os.ReadFile(p.messageFile(c))
	if err != nil {
		return ""
	}
	return string(text[:min(len(text), maxMessage)])
}
