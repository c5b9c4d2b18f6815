package manifest

import (
	"fmt"
	"slices"
	"strings"
)

// kind says where a kind keeps its pod template.
type kind struct {
	groups   string // of its apiVersion, as fields, "core" for none
	path     string // keys that lead to the template, as fields; "" for the object itself
	replicas bool
	crd      bool // kustomize has no schema of it: its lists cannot be merged by name
}

// kinds is the table of what drainctl can edit.
func kinds() map[string]kind {
	const template = "spec template"
	return map[string]kind{
		"Pod":                   {groups: "core"},
		"Deployment":            {groups: "apps extensions", path: template, replicas: true},
		"StatefulSet":           {groups: "apps apps.kruise.io", path: template, replicas: true},
		"DaemonSet":             {groups: "apps extensions apps.kruise.io", path: template},
		"ReplicaSet":            {groups: "apps extensions", path: template, replicas: true},
		"ReplicationController": {groups: "core", path: template, replicas: true},
		"Rollout":               {groups: "argoproj.io", path: template, replicas: true, crd: true},
		"DeploymentConfig":      {groups: "apps.openshift.io core", path: template, replicas: true, crd: true},
		"CloneSet":              {groups: "apps.kruise.io", path: template, replicas: true, crd: true},
		"Job":                   {groups: "batch", path: template},
		"CronJob":               {groups: "batch", path: "spec jobTemplate spec template"},
		"PodTemplate":           {groups: "core", path: "template"},
	}
}

// Kinds returns the kinds that have a pod template which drainctl edits, sorted.
func Kinds() []string {
	var out []string
	for name := range kinds() {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// TemplatePath returns the keys that lead to the pod template of a kind; none for Pod.
func TemplatePath(name string) []string { return strings.Fields(kinds()[name].path) }

// Merges reports whether kustomize knows the kind's schema, so that it merges lists of containers by name.
func (o *Object) Merges() bool { return !kinds()[o.Kind].crd && o.Group() != "apps.kruise.io" }

// Group is the object's API group; "core" for none.
func (o *Object) Group() string {
	group, _, found := strings.Cut(o.APIVersion, "/")
	if !found {
		return "core"
	}
	return group
}

// kindOf returns the table's row of an object. A kind of the same name in another group is another kind; an object without
// apiVersion is taken for the usual one.
func kindOf(o *Object) (kind, bool) {
	k, found := kinds()[o.Kind]
	if found && o.APIVersion != "" && !slices.Contains(strings.Fields(k.groups), o.Group()) {
		return kind{}, false
	}
	return k, found
}

// passedOver says why an object that makes pods is left alone; "" for objects that make none.
func passedOver(o *Object) string {
	why := map[string]string{
		"serving.knative.dev": "Knative allows no second container's hooks and no grace period of ours: its queue-proxy drains the pod itself (spec.template.spec.timeoutSeconds)",
		"tekton.dev":          "Tekton builds the pods itself; label their pods and let the agent be added at admission",
		"batch.volcano.sh":    "Volcano keeps one template for each task; label the pods and let the agent be added at admission",
	}[o.Group()]
	if o.Group() == "argoproj.io" && strings.Contains(o.Kind, "Workflow") {
		why = "Argo builds the pods itself; label their pods and let the agent be added at admission"
	}
	if ref, ok := o.Spec()["workloadRef"].(map[string]any); ok && o.Kind == "Rollout" {
		return fmt.Sprintf("its pods come from %v %v (workloadRef): the agent belongs there", ref["kind"], ref["name"])
	}
	if !makesPods(o.Value, 0) {
		return ""
	}
	if why == "" {
		why = "drainctl does not know this kind; it knows " + strings.Join(Kinds(), ", ")
	}
	return why
}

// makesPods looks for a list of containers with images.
func makesPods(value any, depth int) bool {
	switch v := value.(type) {
	case map[string]any:
		for key, one := range v {
			list, isList := one.([]any)
			if isList && len(list) > 0 && (key == "containers" || key == "steps") {
				if first, ok := list[0].(map[string]any); ok && first["image"] != nil {
					return true
				}
			}
			if one, ok := one.(map[string]any); ok && key == "container" && one["image"] != nil { // a template of Argo's
				return true
			}
			if key != "openAPIV3Schema" && depth < 12 && makesPods(one, depth+1) {
				return true
			}
		}
	case []any:
		for _, one := range v {
			if depth < 12 && makesPods(one, depth+1) {
				return true
			}
		}
	}
	return false
}
