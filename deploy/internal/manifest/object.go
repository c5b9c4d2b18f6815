package manifest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

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
	Passed            string         // why an object that makes pods has no Workload; "" otherwise
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

// Called is the object's name, or what it will begin with.
func (o *Object) Called() string {
	if o.Name == "" && o.GenerateName != "" {
		return o.GenerateName + "*"
	}
	return o.Name
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

func newObject(d *Document, node *yaml.Node, value map[string]any) (*Object, error) {
	o := &Object{Doc: d, Node: node, Value: value}
	o.Kind, o.APIVersion = text(value["kind"]), text(value["apiVersion"])
	_ = convert(value["metadata"], &o.ObjectMeta) // what is wrong in it is the API server's to say
	o.Namespace = cmp.Or(o.Namespace, "default")
	k, known := kindOf(o)
	if !known {
		o.Passed = passedOver(o)
		if err := o.readable(); err != nil {
			return nil, d.fieldError(o, node, err)
		}
		return o, nil
	}
	w := &Workload{Object: o, Template: node}
	var template any = value
	for key := range strings.FieldsSeq(k.path) {
		_, w.Template = pair(w.Template, key)
		m, _ := template.(map[string]any)
		template = m[key]
	}
	if w.Template == nil || template == nil {
		o.Passed = passedOver(o)
		return o, nil // nothing to add anything to
	}
	if err := convert(template, &w.Pod); err != nil {
		return nil, d.fieldError(o, w.Template, errors.New(Plainly(err)))
	}
	w.Replicas = replicas(o, k)
	o.Workload = w
	return o, nil
}

// FromValue is an object that stands in no file, such as one that the API server holds; it has no Doc and no Node.
func FromValue(value map[string]any) *Object {
	o := &Object{Value: value}
	o.Kind, o.APIVersion = text(value["kind"]), text(value["apiVersion"])
	_ = convert(value["metadata"], &o.ObjectMeta) // what the API server holds can be read
	o.Namespace = cmp.Or(o.Namespace, "default")
	return o
}

// fieldError places an error that begins with a field's path below a node.
func (d *Document) fieldError(o *Object, node *yaml.Node, err error) error {
	field, _, _ := strings.Cut(err.Error(), " is ")
	field, _, _ = strings.Cut(field, ": ")
	return d.At(deepest(node, strings.Split(field, ".")), "%s %s: %w", o.Kind, o.Name, err)
}

func replicas(o *Object, k kind) int32 {
	if !k.replicas {
		return 0
	}
	if n, ok := o.Spec()["replicas"].(int); ok {
		return int32(min(max(n, 0), 1<<30)) // bounded
	}
	return 1
}

// unfit is how the JSON library says that a value does not fit a field: with the names of Go's types.
var unfit = regexp.MustCompile(`json: cannot unmarshal (\w+)(?: [^ ]+)? into Go (?:struct field \w*\.(\S+)|value) of type (struct \{.*\}|\S+)`)

// Words of libraries that say nothing to a person, and what they mean.
var (
	noQuantity = regexp.MustCompile(`quantities must match the regular expression.*`)
	noKey      = regexp.MustCompile(`invalid map key: .*`)
)

// Plainly says an error of decoding without the names of a programming language's types.
func Plainly(err error) string {
	text := noQuantity.ReplaceAllString(err.Error(), "a quantity, as of cpu or memory, cannot be read: write 250m, 1, 64Mi or 2G")
	text = noKey.ReplaceAllString(text, "a mapping stands where the name of a field should")
	return unfit.ReplaceAllStringFunc(text, func(said string) string {
		m := unfit.FindStringSubmatch(said)
		want := map[bool]string{true: "a list"}[strings.HasPrefix(m[3], "[]")]
		switch kind := strings.TrimLeft(m[3], "*"); {
		case want != "":
		case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"), strings.HasPrefix(kind, "float"):
			want = "a number"
		case kind == "string":
			want = "a text"
		case kind == "bool":
			want = "true or false"
		default:
			want = "a mapping"
		}
		is := map[string]string{"object": "a mapping", "array": "a list", "number": "a number", "string": "a text", "bool": "true or false"}[m[1]]
		if m[2] == "" {
			return fmt.Sprintf("is %s, should be %s", cmp.Or(is, m[1]), want)
		}
		return fmt.Sprintf("%s is %s, should be %s", m[2], cmp.Or(is, m[1]), want)
	})
}

// GivenNamespace is the namespace that stands in the text; "" where none does.
func (o *Object) GivenNamespace() string {
	metadata, _ := o.Value["metadata"].(map[string]any)
	return text(metadata["namespace"])
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

// deepest follows keys down as far as they lead, into the first item of a list that has the key.
func deepest(n *yaml.Node, keys []string) *yaml.Node {
	for at := n; len(keys) > 0; keys = keys[1:] {
		if at.Kind == yaml.SequenceNode {
			i := slices.IndexFunc(at.Content, func(item *yaml.Node) bool { _, v := pair(item, keys[0]); return v != nil })
			if i < 0 {
				return n
			}
			at = at.Content[i]
		}
		if _, at = pair(at, keys[0]); at == nil {
			return n
		}
		n = at
	}
	return n
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
