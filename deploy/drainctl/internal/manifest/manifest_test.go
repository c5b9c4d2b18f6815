package manifest_test

import (
	"bytes"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/manifest"
)

func TestDocumentsKeepTheirTextAndPlace(t *testing.T) {
	text := "# head\n%YAML 1.1\n---\nkind: A\r\n--- # two\nkind: B\nx: |\n  --- inside\n---\n\n---\n- a list\n---\nkind: C"
	docs, err := manifest.Parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var joined strings.Builder
	var kinds []string
	var lines []int
	for _, d := range docs {
		joined.Write(d.Text)
		lines = append(lines, d.Line)
		for _, o := range d.Objects {
			kinds = append(kinds, o.Kind)
		}
	}
	if joined.String() != text {
		t.Errorf("texts: %q", joined.String())
	}
	if got := strings.Join(kinds, ""); got != "ABC" {
		t.Errorf("kinds %s", got)
	}
	if want := []int{1, 5, 9, 11, 13}; len(lines) != len(want) || lines[1] != 5 || lines[4] != 13 {
		t.Errorf("lines %v, want %v", lines, want)
	}
}

func TestErrorsNameFileLineAndDocument(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1\n---\nb: 2\nb: 3\n":             `f.yaml:4: document 2: mapping key "b" already defined at line 3`,
		"---\n\n\nkind: Pod\n  x: {{ y }}\n":  "f.yaml:5: document 1: ",
		"a: *nobody\n":                        "f.yaml:1: document 1: ",
		"kind: Pod\nspec:\n  containers: 3\n": "f.yaml:1: document 1: Pod : json: cannot unmarshal",
		"a: &a\n- *a\n":                       "document 1: ",
	} {
		docs, err := manifest.Parse("f.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		if len(docs) == 0 {
			t.Errorf("%q: documents lost", text)
		}
	}
}

func TestMarksThatWereChangedAreAnError(t *testing.T) {
	for _, text := range []string{"# drain-agent: begin\n", "# drain-agent: begin\n# drain-agent: begin\n# drain-agent: end\n", "# drain-agent: begin\n# drain-agent: end\n# drain-agent: end\n", "# drain-agent: end\n# drain-agent: begin\n# drain-agent: end\n# drain-agent: begin\n"} {
		if _, _, err := manifest.Restore([]byte(text)); err == nil || !strings.Contains(err.Error(), "the marks of drainctl were changed") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestMerge(t *testing.T) {
	for name, test := range map[string]struct{ text, patch, want string }{
		"new items stand behind the one before them in the patch": {
			"kind: x\nlist:\n- name: a\n- name: b\n", "list: [{name: a, x: 1}, {name: n}, {name: b, y: 2}]",
			"kind: x\nlist:\n- name: a\n  x: 1\n- {name: n}\n- name: b\n  y: 2\n",
		},
		"and at the head": {"kind: x\nlist:\n# of a\n- name: a\n", "list: [{name: n}]", "kind: x\nlist:\n- {name: n}\n# of a\n- name: a\n"},
		"lists without names are replaced": {
			"kind: x\na:\n  name: v\n  items:\n  - path: b\n", "a: {items: [{path: c}]}", "kind: x\na:\n  name: v\n  items: [{path: c}]\n",
		},
		"a whole document in braces, and what follows it": {
			"{\"kind\": \"x\", \"a\": {\"b\": 1}} # here\n# there\n...\n", "a: {b: 2}", "# here\n\"kind\": \"x\"\n\"a\":\n  \"b\": 2\n# there\n...\n",
		},
		"a brace that closes at the left": {"kind: x\na: {b: 1,\n  c: 2\n}\nd: 3\n", "a: {e: 4}", "kind: x\na:\n  e: 4\n  b: 1\n  c: 2\nd: 3\n"},
		"what is there already":           {"kind: x\na: 1 # one\nb: [{name: c, d: {}}]\n", "{a: 1}", "kind: x\na: 1 # one\nb: [{name: c, d: {}}]\n"},
		"no end of the last line":         {"kind: x\nname: y", "a: 1", "kind: x\nname: y\na: 1"},
	} {
		docs, err := manifest.Parse("f", []byte(test.text))
		if err != nil {
			t.Fatal(err)
		}
		var patch yaml.Node
		if err := yaml.Unmarshal([]byte(test.patch), &patch); err != nil {
			t.Fatal(err)
		}
		editor := manifest.NewEditor(docs[0])
		editor.Merge(docs[0].Objects[0].Node, patch.Content[0], "it")
		out, err := editor.Apply()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got strings.Builder
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, "# drain-agent: ") {
				got.WriteString(line)
			}
		}
		if strings.TrimSuffix(got.String(), "\n") != strings.TrimSuffix(test.want, "\n") {
			t.Errorf("%s:\n%s\nwant\n%s", name, got.String(), test.want)
		}
		if back, _, err := manifest.Restore(out); err != nil || string(back) != test.text {
			t.Errorf("%s: taken back: %q, %v", name, back, err)
		}
	}
}

func TestAFileOfFiveMegabytes(t *testing.T) {
	one := "---\nkind: ConfigMap\ndata:\n  a: |\n" + strings.Repeat("    text text text text\n", 2000)
	text := []byte(strings.Repeat(one, 5<<20/len(one)+1))
	docs, err := manifest.Parse("f", text)
	if err != nil || len(docs) < 100 {
		t.Fatalf("%d documents, %v", len(docs), err)
	}
	var joined []byte
	for _, d := range docs {
		joined = append(joined, d.Text...)
	}
	if !bytes.Equal(joined, text) {
		t.Error("text lost")
	}
}
