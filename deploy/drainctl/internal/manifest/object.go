package manifest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"
)

// Object is one Kubernetes object.
type Object struct {
	metav1.TypeMeta
	metav1.ObjectMeta // as much of it as can be read
	Doc               *Document
	Node              *yaml.Node
	Value             map[string]any // plain values, for kinds that we have no type of
	Workload          *Workload      // nil for kinds without pods
}

// Objects returns the objects of all documents.
func Objects(docs []*Document) (all []*Object) {
	for _, d := range docs {
		all = append(all, d.Objects...)
	}
	return all
}

// Workload is an object that makes pods.
type Workload struct {
	*Object
	Template *yaml.Node // the mapping with the pod's metadata and spec
	Pod      corev1.PodTemplateSpec
	Replicas int32 // 1 where nothing is said; 0 for kinds that have none
}

// Job reports whether the pods end when their work is done.
func (w *Workload) Job() bool { return w.Kind == "Job" || w.Kind == "CronJob" }

// Containers returns all containers, those that start first before the others.
func (w *Workload) Containers() []*corev1.Container {
	var out []*corev1.Container
	for _, list := range [][]corev1.Container{w.Pod.Spec.InitContainers, w.Pod.Spec.Containers} {
		for i := range list {
			out = append(out, &list[i])
		}
	}
	return out
}

// Regular returns the containers that are no init containers.
func (w *Workload) Regular() []*corev1.Container {
	return w.Containers()[len(w.Pod.Spec.InitContainers):]
}

// Sidecars returns the native sidecars in init order.
func (w *Workload) Sidecars() []*corev1.Container {
	return slices.DeleteFunc(w.Containers()[:len(w.Pod.Spec.InitContainers)], func(c *corev1.Container) bool {
		return c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways
	})
}

// Named returns the container of that name, nil where there is none.
func (w *Workload) Named(name string) *corev1.Container {
	for _, c := range w.Containers() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// templates says where each kind keeps its pod template.
func templates() map[string][]string {
	return map[string][]string{
		"Pod": {}, "Deployment": {"spec", "template"}, "StatefulSet": {"spec", "template"}, "DaemonSet": {"spec", "template"},
		"ReplicaSet": {"spec", "template"}, "ReplicationController": {"spec", "template"}, "Rollout": {"spec", "template"},
		"Job": {"spec", "template"}, "CronJob": {"spec", "jobTemplate", "spec", "template"}, "PodTemplate": {"template"},
	}
}

// TemplatePath returns the keys that lead to the pod template of a kind; none for Pod.
func TemplatePath(kind string) []string { return templates()[kind] }

func newObject(d *Document, node *yaml.Node, value map[string]any) (*Object, error) {
	o := &Object{Doc: d, Node: node, Value: value}
	o.Kind, o.APIVersion = text(value["kind"]), text(value["apiVersion"])
	_ = convert(value["metadata"], &o.ObjectMeta) // what is wrong in it is the API server's to say
	o.Namespace = cmp.Or(o.Namespace, "default")
	path, makesPods := templates()[o.Kind]
	if !makesPods {
		return o, nil
	}
	w := &Workload{Object: o, Template: node}
	var template any = value
	for _, key := range path {
		_, w.Template = pair(w.Template, key)
		m, _ := template.(map[string]any)
		template = m[key]
	}
	if w.Template == nil || template == nil {
		return o, nil // nothing to add anything to
	}
	if err := convert(template, &w.Pod); err != nil {
		return nil, d.At(w.Template, "%s %s: %v", o.Kind, o.Name, err)
	}
	w.Replicas = replicas(o)
	o.Workload = w
	return o, nil
}

func replicas(o *Object) int32 {
	switch o.Kind {
	case "Deployment", "StatefulSet", "ReplicaSet", "ReplicationController", "Rollout":
		if n, ok := o.Spec()["replicas"].(int); ok {
			return int32(min(max(n, 0), 1<<30)) // bounded
		}
		return 1
	}
	return 0
}

// Spec returns the object's spec as plain values.
func (o *Object) Spec() map[string]any {
	spec, _ := o.Value["spec"].(map[string]any)
	return spec
}

// Into fills a typed object from this one.
func (o *Object) Into(typed any) error { return convert(o.Value, typed) }

func convert(from, to any) error {
	raw, err := json.Marshal(from)
	if err != nil {
		return fmt.Errorf("turn into JSON: %v", err)
	}
	return kjson.UnmarshalCaseSensitivePreserveInts(raw, to) // keys as the API server reads them
}

// pair finds a key of a mapping: the node of the key and the node of its value, nil where there is none.
func pair(m *yaml.Node, key string) (k, v *yaml.Node) {
	if m != nil && m.Kind == yaml.AliasNode {
		m = m.Alias
	}
	if m == nil || m.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i], m.Content[i+1]
		}
	}
	return nil, nil
}

// Find follows keys down from a mapping; nil where one is missing.
func Find(m *yaml.Node, keys ...string) *yaml.Node {
	for _, key := range keys {
		_, m = pair(m, key)
	}
	return m
}

// FindDeep returns the first key of that name anywhere in a tree; nil where there is none.
func FindDeep(n *yaml.Node, key string) *yaml.Node {
	if k, _ := pair(n, key); k != nil || n == nil {
		return k
	}
	for _, one := range n.Content {
		if found := FindDeep(one, key); found != nil {
			return found
		}
	}
	return nil
}

// Container returns the node of a container of the pod, nil where there is none of that name.
func (w *Workload) Container(name string) *yaml.Node {
	for _, list := range []string{"containers", "initContainers"} {
		seq := Find(w.Template, "spec", list)
		if seq == nil || seq.Kind != yaml.SequenceNode {
			continue
		}
		for _, item := range seq.Content {
			if _, v := pair(item, "name"); v != nil && v.Value == name {
				return item
			}
		}
	}
	return nil
}
