package inject_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	node "go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// What kustomize makes of the patches is what inject inserts.
func TestKustomizeBuildsThePatches(t *testing.T) {
	built := 0
	for name, text := range shapes(t) {
		o := options(name)
		o.Token = "TOKEN"
		whole, reports, err := inject.File(name, text, o)
		if err != nil {
			t.Fatal(err)
		}
		resources, names := asResources(t, name, text, nil)
		if kustomize(t, name, resources, reports, whole, names) {
			built++
		}
	}
	if built < 60 {
		t.Errorf("%d builds", built)
	}
}

func TestCorpusIsBuiltByKustomizeToo(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(corpus(t), "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	built := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		o := options("corpus")
		o.KeepGoing, o.Token = true, "TOKEN"
		whole, reports, _ := inject.File(file, text, o) // what is asked or refused has no plan: TestCorpusComesOutValid
		planned := map[string]bool{}
		for _, r := range reports {
			if r.Plan != nil {
				planned[r.Object.Kind+"/"+r.Object.Name] = true
			}
		}
		if len(planned) == 0 {
			continue
		}
		resources, names := asResources(t, file, text, planned)
		if kustomize(t, filepath.Base(file), resources, reports, whole, names) {
			built++
		}
	}
	t.Logf("%d builds", built)
	if built < 40 {
		t.Error("too few to say anything")
	}
}

// kustomize builds the patches of the reports over the resources, and compares the result with the text that inject wrote.
func kustomize(t *testing.T, name, resources string, reports []inject.Report, whole []byte, names map[string]bool) bool {
	t.Helper()
	fs := filesys.MakeFsInMemory()
	write := func(file, text string) {
		if err := fs.WriteFile("/k/"+file, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	write("resources.yaml", resources)
	var kustomization strings.Builder
	kustomization.WriteString("resources: [resources.yaml]\npatches:\n")
	patched := map[string]bool{}
	for i, r := range reports {
		if r.Plan == nil || !names[r.Object.Kind+"/"+r.Object.Name] || patched[r.Object.Kind+"/"+r.Object.Name] {
			continue
		}
		patched[r.Object.Kind+"/"+r.Object.Name] = true
		file := fmt.Sprintf("%s%d.yaml", strings.ToLower(r.Object.Kind), i)
		patch := r.Plan.Patch(r.Object.Workload)
		write(file, patch)
		kustomization.WriteString("- path: " + file + "\n")
		if target := strings.SplitN(patch, "#   target: ", 2); len(target) == 2 {
			kustomization.WriteString("  target: " + strings.SplitN(target[1], "\n", 2)[0] + "\n")
		}
	}
	write("kustomization.yaml", kustomization.String())
	out, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(fs, "/k")
	if err != nil {
		t.Errorf("%s: %v\n%s", name, err, kustomization.String())
		return false
	}
	text, err := out.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	same(t, name, pods(t, name, text), lenient(name, whole), names)
	return true
}

// lenient are the workloads of a text that may hold documents which nobody can read.
func lenient(name string, text []byte) (out []*manifest.Workload) {
	docs, _ := manifest.Parse(name, text)
	seen := map[string]bool{}
	for _, o := range manifest.Objects(docs) {
		if key := o.Kind + "/" + o.Name; o.Workload != nil && !seen[key] {
			seen[key] = true
			out = append(out, o.Workload)
		}
	}
	return out
}

// asResources writes the objects, or those of some names, one a document, as kustomize takes them, and names those that it takes.
func asResources(t *testing.T, name string, text []byte, only map[string]bool) (string, map[string]bool) {
	t.Helper()
	docs, err := manifest.Parse(name, text)
	if err != nil && only == nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	var out []string
	for _, o := range manifest.Objects(docs) {
		if o.Name == "" || o.APIVersion == "" || names[o.Kind+"/"+o.Name] || only != nil && !only[o.Kind+"/"+o.Name] {
			continue
		}
		names[o.Kind+"/"+o.Name] = true
		one, err := yaml.Marshal(o.Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(one))
	}
	return strings.Join(out, "---\n"), names
}

func same(t *testing.T, name string, built, whole []*manifest.Workload, taken map[string]bool) {
	t.Helper()
	find := func(list []*manifest.Workload, like *manifest.Workload) *manifest.Workload {
		for _, one := range list {
			if one.Kind == like.Kind && one.Name == like.Name {
				return one
			}
		}
		return nil
	}
	for _, w := range whole {
		if !taken[w.Kind+"/"+w.Name] {
			continue
		}
		other := find(built, w)
		if other == nil {
			t.Errorf("%s: kustomize lost %s %s", name, w.Kind, w.Name)
			continue
		}
		if a, b := unordered(t, w.Template), unordered(t, other.Template); !reflect.DeepEqual(a, b) {
			left, _ := json.MarshalIndent(a, "", " ")
			right, _ := json.MarshalIndent(b, "", " ")
			t.Errorf("%s: %s %s: inject writes\n%s\nkustomize builds\n%s", name, w.Kind, w.Name, left, right)
		}
		order := func(w *manifest.Workload) string {
			var all []string
			for _, list := range [][]corev1.Container{w.Pod.Spec.InitContainers, w.Pod.Spec.Containers} {
				all = append(all, strings.Join(names(list), " "))
			}
			return strings.Join(all, " | ")
		}
		if order(w) != order(other) {
			t.Errorf("%s: %s %s: order %s, kustomize has %s", name, w.Kind, w.Name, order(w), order(other))
		}
	}
}

// unordered reads a template with the items of named lists by their names.
func unordered(t *testing.T, n *node.Node) any {
	t.Helper()
	var walk func(value any) any
	walk = func(value any) any {
		switch v := value.(type) {
		case map[string]any:
			for key, one := range v {
				v[key] = walk(one)
			}
		case []any:
			byName := map[string]any{}
			for _, one := range v {
				m, ok := one.(map[string]any)
				name, isText := m["name"].(string)
				if path, is := m["mountPath"].(string); is {
					name += path
				}
				if !ok || !isText || byName[name] != nil {
					return value
				}
				byName[name] = walk(one)
			}
			return byName
		}
		return value
	}
	raw, err := json.Marshal(value(t, n))
	if err != nil {
		t.Fatal(err)
	}
	var plain any
	if err := json.Unmarshal(raw, &plain); err != nil {
		t.Fatal(err)
	}
	return walk(plain)
}
