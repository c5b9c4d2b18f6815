package inject

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// Operation is one of RFC 6902.
type Operation struct {
	Op    string `yaml:"op" json:"op"`
	Path  string `yaml:"path" json:"path"`
	Value any    `yaml:"value,omitempty" json:"value,omitempty"`
}

// operations writes the plan as a JSON 6902 patch. It finds containers by their place and tests their names first, so that a base
// that has changed is an error and no wrong edit.
func (p *Plan) operations(w *manifest.Workload) string {
	var patch map[string]any
	if err := yaml.Unmarshal([]byte(p.podPatch(w, true)), &patch); err != nil {
		panic(fmt.Sprintf("patch of %s: %v", w.Name, err)) // a mistake in the template; every test would see it
	}
	original := w.Value // not the nodes: an editor may have changed them
	for _, key := range manifest.TemplatePath(w.Kind) {
		original, _ = original[key].(map[string]any)
	}
	var ops []Operation
	merge(&ops, "/"+strings.Join(manifest.TemplatePath(w.Kind), "/"), original, patch)
	target := fmt.Sprintf("kind: %s, name: %s", w.Kind, quote(w.Name))
	if group, version, found := strings.Cut(w.APIVersion, "/"); found {
		target = "group: " + group + ", version: " + version + ", " + target
	}
	if namespace := w.GivenNamespace(); namespace != "" {
		target += ", namespace: " + quote(namespace)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "# JSON 6902, for kustomize has no schema of %s. In kustomization.yaml, with a file of its own:\n# patches:\n# - path: FILE\n#   target: {%s}\n", w.Kind, target)
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(ops); err != nil {
		panic(err) // plain values always can
	}
	return out.String()
}

// merge collects what turns an object into itself with the patch.
func merge(ops *[]Operation, path string, original, patch map[string]any) {
	for _, key := range sorted(patch) {
		value, at := patch[key], path+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
		was, has := original[key]
		inner, isMap := value.(map[string]any)
		wasMap, wasIsMap := was.(map[string]any)
		list, isList := value.([]any)
		wasList, wasIsList := was.([]any)
		switch {
		case key == "$patch":
		case has && isMap && wasIsMap && inner["$patch"] == nil:
			merge(ops, at, wasMap, inner)
		case has && isList && wasIsList && len(wasList) > 0 && named(list):
			mergeNamed(ops, at, wasList, list)
		default:
			*ops = append(*ops, Operation{"add", at, stripped(value)})
		}
	}
}

// mergeNamed merges a list whose items are known by their names; new ones stand behind the one before them in the patch.
func mergeNamed(ops *[]Operation, path string, original, patch []any) {
	original = slices.Clone(original)
	behind := 0
	for _, item := range patch {
		m, _ := item.(map[string]any)
		at := slices.IndexFunc(original, func(one any) bool { was, _ := one.(map[string]any); return was["name"] == m["name"] })
		if at < 0 {
			*ops = append(*ops, Operation{"add", fmt.Sprintf("%s/%d", path, behind), stripped(item)})
			original = slices.Insert(original, behind, item)
			behind++
			continue
		}
		*ops = append(*ops, Operation{"test", fmt.Sprintf("%s/%d/name", path, at), m["name"]})
		was, _ := original[at].(map[string]any)
		merge(ops, fmt.Sprintf("%s/%d", path, at), was, without(m, "name"))
		behind = at + 1
	}
}

func named(list []any) bool {
	first, _ := append(slices.Clone(list), nil)[0].(map[string]any)
	return first["name"] != nil
}

// stripped is a value without the directives of strategic merges.
func stripped(value any) any {
	switch v := value.(type) {
	case map[string]any:
		m := without(v, "$patch")
		for key, one := range m {
			m[key] = stripped(one)
		}
		return m
	case []any:
		out := make([]any, len(v))
		for i, one := range v {
			out[i] = stripped(one)
		}
		return out
	}
	return value
}

func without(m map[string]any, key string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		if k != key {
			out[k] = v
		}
	}
	return out
}

func sorted(m map[string]any) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
