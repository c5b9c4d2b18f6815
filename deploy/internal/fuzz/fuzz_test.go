package fuzz

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/lint"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// options have a token: a new one each time would look like new code paths.
func options() inject.Options {
	return inject.Options{Image: "agent:1", Shape: "auto", Proxy: "auto", Token: "T"}
}

func shapes(f *testing.F) (texts [][]byte) {
	f.Helper()
	files, err := filepath.Glob("../inject/testdata/shapes/*.yaml")
	if err != nil || len(files) < 30 {
		f.Fatalf("%d shapes, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		texts = append(texts, text)
	}
	return texts
}

// holds checks what must hold of any text: nothing is lost in reading it, and what comes out is a text that a second run leaves
// alone and that can be taken back. It returns nil where the text is refused.
func holds(t *testing.T, text []byte, o inject.Options) []byte {
	t.Helper()
	docs, _ := manifest.Parse("f", text) // the texts must survive errors too
	var joined []byte
	for _, d := range docs {
		joined = append(joined, d.Text...)
	}
	if !bytes.Equal(joined, text) {
		t.Fatalf("documents lost: %q", joined)
	}
	lint.Run(docs)
	out, _, err := inject.File("f", text, o)
	if err != nil {
		return nil
	}
	original, _, err := manifest.Restore(text)
	if err != nil {
		t.Fatal(err)
	}
	if back, _, err := manifest.Restore(out); err != nil || !bytes.Equal(back, original) {
		t.Fatalf("not restored: %v", err)
	}
	if again, _, err := inject.File("f", out, o); err != nil || !bytes.Equal(again, out) {
		t.Fatalf("not idempotent: %v", err)
	}
	return out
}

func FuzzFile(f *testing.F) {
	for i, text := range shapes(f) {
		f.Add(text, i%2 == 0)
	}
	f.Add([]byte("a: &a [*a]\n"), true)
	f.Add([]byte("{\"kind\": \"Pod\"}{\"kind\": \"Pod\", \"spec\": {\"containers\": [{\"name\": \"envoy\", \"image\": \"envoy\"}]}}"), false)
	f.Add([]byte("kind: A\nx: |2\n   # drain-agent: begin\n  # drain-agent: end\ny: \"\n # drain-agent: was |\"\n"), true)
	f.Add([]byte("%YAML 1.2\n---\nkind: Pod\r\n---\n...\n"), false)
	f.Add([]byte("kind: Pod\nspec: {{ toYaml . }}\n"), false)
	f.Add([]byte("\xff\xfe---\n- - - -\n"), false)
	f.Fuzz(func(t *testing.T, text []byte, classic bool) {
		o := options()
		if classic {
			o.Shape = "classic"
		}
		holds(t, text, o)
	})
}

// FuzzStream lays pods one behind the other, with anything between them that JSON takes for white space, or a separator: as many
// come out as went in, or an error says why not.
func FuzzStream(f *testing.F) {
	f.Add("first", "second", "\n", uint8(0))
	f.Add("a}{", "b\"\\", "\r\n\t ", uint8(1))
	f.Add("---", "...", "\n---\n", uint8(2))
	f.Add("# drain-agent: begin", "{{ x }}", "", uint8(3))
	f.Fuzz(func(t *testing.T, first, second, between string, form uint8) {
		if strings.Trim(between, " \t\r\n") != "" && between != "\n---\n" {
			return
		}
		var texts []string
		for i, name := range []string{first, second, "last"} {
			pod := map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name}, "spec": map[string]any{
				"containers": []any{map[string]any{"name": "envoy", "image": "envoyproxy/envoy:v1"}, map[string]any{"name": "app", "image": name}},
			}}
			var text []byte
			var err error
			if form>>i&1 == 0 {
				text, err = json.Marshal(pod)
			} else {
				text, err = json.MarshalIndent(pod, "", "  ")
			}
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(text))
		}
		out := holds(t, []byte(strings.Join(texts, between)), options())
		if out == nil && strings.Contains(between, "\n") && !strings.Contains(between, "\t") {
			t.Fatalf("refused: %q", strings.Join(texts, between))
		} else if out == nil { // YAML, which the result is, knows no tabs at the head of a line; said as an error
			return
		}
		docs, err := manifest.Parse("f", out)
		if all := manifest.Objects(docs); err != nil || len(all) != 3 || slices.ContainsFunc(all, func(o *manifest.Object) bool { return o.Workload.Named(inject.AgentContainer) == nil }) {
			t.Fatalf("%d objects, %v:\n%s", len(all), err, out)
		}
	})
}

// FuzzMarks puts a text, which may look like marks, into a string of every style beside a pod: the string is the same afterwards.
func FuzzMarks(f *testing.F) {
	f.Add("spec:\n  # drain-agent: begin\n  x: 1\n  # drain-agent: end\n", uint8(0))
	f.Add("# drain-agent: was |a\n# drain-agent: end", uint8(1))
	f.Add("\n  # drain-agent: end\n---\n# drain-agent: begin\n", uint8(2))
	f.Add("'# drain-agent: begin\n\n\t\"# drain-agent: end\\\n", uint8(3))
	f.Fuzz(func(t *testing.T, said string, form uint8) {
		style := []yaml.Style{yaml.LiteralStyle, yaml.FoldedStyle, yaml.SingleQuotedStyle, yaml.DoubleQuotedStyle}[form%4]
		value := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: said, Style: style}
		config, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "c"}, "data": map[string]*yaml.Node{"a": value, "b": value}})
		if err != nil {
			return // not every text can be YAML
		}
		var was struct{ Data map[string]string }
		if yaml.Unmarshal(config, &was) != nil {
			return
		}
		const pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: envoy, image: \"envoyproxy/envoy:v1\"}\n"
		out := holds(t, append(config, pod...), options())
		if out == nil {
			return // a library wrote what it cannot read, or the text parts documents
		}
		docs, err := manifest.Parse("f", out)
		if err != nil || len(docs[0].Objects) != 1 {
			t.Fatalf("%v:\n%s", err, out)
		}
		data, _ := docs[0].Objects[0].Value["data"].(map[string]any)
		if data["a"] != was.Data["a"] || data["b"] != was.Data["b"] {
			t.Fatalf("%q became %q:\n%s", was.Data["a"], data["a"], out)
		}
	})
}
