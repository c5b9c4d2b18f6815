package inject

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/manifest"
)

// Patch writes the plan of a workload as a strategic merge patch, which kustomize takes.
func (p *Plan) Patch(w *manifest.Workload) string {
	template := append(p.annotationLines(w), p.patchSpec(w)...)
	for _, key := range slices.Backward(manifest.TemplatePath(w.Kind)) {
		template = append([]string{key + ":"}, indented(template)...)
	}
	head := []string{"apiVersion: " + w.APIVersion, "kind: " + w.Kind}
	if w.Kind == "Pod" && len(p.annotations(w)) > 0 {
		template = slices.Insert(template, 1, "  name: "+w.Name)
	} else {
		head = append(head, "metadata: {name: "+w.Name+"}")
	}
	return strings.Join(append(head, template...), "\n") + "\n"
}

func (p *Plan) annotationLines(w *manifest.Workload) []string {
	var lines []string
	for _, one := range p.annotations(w) {
		lines = append(lines, "    "+one[0]+": "+strconv.Quote(one[1]))
	}
	if lines == nil {
		return nil
	}
	return append([]string{"metadata:", "  annotations:"}, lines...)
}

func (p *Plan) patchSpec(w *manifest.Workload) []string {
	lines := []string{"spec:", "  " + p.graceLine()}
	list := func(name string, items []string) {
		if len(items) > 0 {
			lines = append(append(lines, "  "+name+":"), indented(items)...)
		}
	}
	list("initContainers", append(p.firstInit(), p.patchContainers(w.Pod.Spec.InitContainers, -1)...))
	at := -1
	if !p.Native {
		at = p.agentIndex()
	}
	list("containers", p.patchContainers(w.Pod.Spec.Containers, at))
	list("volumes", p.render("volumes"))
	return lines
}

// patchContainers lists the containers that get something, with the agent before the one at the index.
func (p *Plan) patchContainers(all []corev1.Container, agentAt int) []string {
	var lines []string
	for i := range all {
		if i == agentAt {
			lines = append(lines, p.render("agent")...)
		}
		at := slices.IndexFunc(p.Hooks, func(h hook) bool { return h.container == all[i].Name })
		if at < 0 {
			continue
		}
		h := p.Hooks[at]
		lines = append(lines, "- name: "+h.container)
		if h.name == "proxy" && p.StartProbe {
			lines = append(lines, indented(slices.Insert(p.render("startup"), 1, "  $patch: replace"))...)
		}
		lines = append(lines, "  lifecycle:")
		lines = append(lines, indented(indented(slices.Insert(p.preStop(h), 1, "  $patch: replace # two kinds of hook in one are refused")))...)
		if h.chain != nil {
			lines = append(lines, "  volumeMounts:", "  "+sharedMount)
		}
	}
	return lines
}
