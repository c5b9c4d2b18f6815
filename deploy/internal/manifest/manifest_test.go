package manifest_test

import (
	"bytes"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
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
		"kind: Pod\nspec:\n  containers: 3\n": "f.yaml:3: document 1: Pod : spec.containers is a number, should be a list",
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

// What tells of the pods beside it is read or refused, as the API server would: nothing that it says is passed over in silence.
func TestNeighboursThatCannotBeRead(t *testing.T) {
	for text, want := range map[string]string{
		"v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - port: \"80\"\n":                                                                    "f:6: document 1: Service a: spec.ports.port is a text, should be a number",
		"v1\nkind: Service\nmetadata: {name: a}\nspec: web\n":                                                                                            "f:4: document 1: Service a: spec is a text, should be a mapping",
		"v1\nkind: Namespace\nmetadata:\n  name: a\n  labels: {istio-injection: true}\n":                                                                 "Namespace a: metadata.labels is true or false, should be a text",
		"v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {port: 80}\n":                                                                                   "f:4: document 1: ConfigMap a: data is a number, should be a text",
		"policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: a}\nspec: {minAvailable: [2]}\n":                                                         "spec.minAvailable is a list, should be a number",
		"policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: a}\nspec:\n  selector: {matchExpressions: [{key: b, operator: Is, values: [c]}]}\n":      "spec.selector: \"Is\" is not a valid label selector operator",
		"autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: a}\nspec: {scaleTargetRef: {name: a}, minReplicas: two}\n":                      "spec.minReplicas is a text, should be a number",
		"networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: {podSelector: web}\n":                                                     "spec.podSelector is a text, should be a mapping",
		"networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\nspec: {rules: {}}\n":                                                                  "spec.rules is a mapping, should be a list",
		"security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: STRICT}\n":                                                    "spec.mtls is a text, should be a mapping",
		"v1\nkind: Service\nmetadata: {name: a}\nspec: {selector: {app: a}, ports: [{port: 80, targetPort: web}], clusterIP: None, unknown: {a: [1]}}\n": "",
		"serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\nspec: web\n":                                                                        "",
	} {
		_, err := manifest.Parse("f", []byte("apiVersion: "+text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
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
		"a whole document in braces that are indented": {"  {\"kind\": \"x\",\n   \"a\": 1}\n", "b: 2", "b: 2\n\"kind\": \"x\"\n\"a\": 1\n"},
		"a brace that closes at the left":              {"kind: x\na: {b: 1,\n  c: 2\n}\nd: 3\n", "a: {e: 4}", "kind: x\na:\n  e: 4\n  b: 1\n  c: 2\nd: 3\n"},
		"what is there already":                        {"kind: x\na: 1 # one\nb: [{name: c, d: {}}]\n", "{a: 1}", "kind: x\na: 1 # one\nb: [{name: c, d: {}}]\n"},
		"no end of the last line":                      {"kind: x\nname: y", "a: 1", "kind: x\nname: y\na: 1"},
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

// What carries a manifest as text keeps it, marks and all.
func TestMarksInsideStringsBelongToTheString(t *testing.T) {
	for _, text := range []string{
		"kind: ConfigMap\ndata:\n  a: |\n    spec:\n      # drain-agent: begin\n      x: 1\n      # drain-agent: end\n  b: c\n",
		"kind: ConfigMap\ndata:\n  a: >2-\n      # drain-agent: begin\n    # drain-agent: end\n",
		"kind: ConfigMap\ndata:\n  a: \"x\n    # drain-agent: begin\n    \\\" y\n    # drain-agent: was |z\"\n",
		"kind: ConfigMap\ndata:\n  a: !!str 'x''\n    # drain-agent: end\n    '\n",
		"kind: A\nlist:\n- |\n  # drain-agent: begin\n- b\n---\nkind: B\ntext: |\n  x\n  # drain-agent: end\n",
	} {
		back, found, err := manifest.Restore([]byte(text))
		if err != nil || found || string(back) != text {
			t.Errorf("%q: found %v, %v, became %q", text, found, err, back)
		}
	}
	const text = "kind: A\ntext: |\n  # drain-agent: begin\n  # drain-agent: end\n# drain-agent: begin\n# drain-agent: was |old: |\n# drain-agent: was |  # drain-agent: end\nold: |\n  # drain-agent: was |x\n# drain-agent: end\n"
	if back, found, err := manifest.Restore([]byte(text)); err != nil || !found || string(back) != "kind: A\ntext: |\n  # drain-agent: begin\n  # drain-agent: end\nold: |\n  # drain-agent: end\n" {
		t.Errorf("%q, %v, %v", back, found, err)
	}
}

func TestNothingIsLostBetweenDocuments(t *testing.T) {
	for text, want := range map[string]string{
		"{\"kind\": \"A\"}\n{\"kind\": \"B\"}\n{\"kind\":\n \"C\"}\n": "ABC",
		"{\"kind\": \"A\"} {\"kind\": \"B\"}":                         "AB",
		"{\"kind\": \"A\"}\n---\n{\"kind\": \"B\"}\n":                 "AB",
		"kind: A\n...\nkind: B\n":                                     "AB",
		"kind: A\n...\n# end\n---\nkind: B\n...\n":                    "AB",
		"kind: Template\nobjects:\n- kind: A\n- kind: B\n":            "AB",
	} {
		docs, err := manifest.Parse("f", []byte(text))
		var joined, kinds string
		for _, d := range docs {
			joined += string(d.Text)
			for _, o := range d.Objects {
				kinds += o.Kind
			}
		}
		if err != nil || kinds != want || joined != text {
			t.Errorf("%q: kinds %s, %v, text %q", text, kinds, err, joined)
		}
	}
	if _, err := manifest.Parse("f", []byte("{kind: A}\n{kind: B}\n")); err == nil {
		t.Error("the second object of a file without separator is lost in silence")
	}
}

func TestKindsThatAreLeftAloneSayWhy(t *testing.T) {
	pod := "template: {spec: {containers: [{name: a, image: b}]}}"
	for text, want := range map[string]string{
		"apiVersion: serving.knative.dev/v1\nkind: Service\nspec: {" + pod + "}":                            "Knative allows no",
		"apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nspec: {tasks: [{" + pod + "}]}":                  "Volcano keeps",
		"apiVersion: tekton.dev/v1\nkind: TaskRun\nspec: {taskSpec: {steps: [{image: a}]}}":                 "Tekton builds",
		"apiVersion: example.org/v1\nkind: Shop\nspec: {" + pod + "}":                                       "does not know this kind",
		"apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nspec: {workloadRef: {kind: Deployment, name: a}}": "come from Deployment a",
		"apiVersion: v1\nkind: Service\nspec: {ports: [{port: 80}]}":                                        "",
		"apiVersion: apps.openshift.io/v1\nkind: DeploymentConfig\nspec: {" + pod + "}":                     "",
		"apiVersion: apps.kruise.io/v1alpha1\nkind: CloneSet\nspec: {" + pod + "}":                          "",
	} {
		docs, err := manifest.Parse("f", []byte(text+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		o := docs[0].Objects[0]
		if want == "" && o.Passed != "" || !strings.Contains(o.Passed, want) || want != "" && o.Workload != nil {
			t.Errorf("%s: %q, want %q", text, o.Passed, want)
		}
		if strings.Contains(text, "openshift") && o.Workload == nil {
			t.Error("DeploymentConfig has no workload")
		}
	}
	for _, text := range []string{"<html>\n", "hello\n", "a: 1\n"} {
		if docs, _ := manifest.Parse("f", []byte(text)); docs[0].Passed == "" {
			t.Errorf("%q is passed over in silence", text)
		}
	}
}

func TestOtherEncodingsAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"\xff\xfek\x00i\x00n\x00d\x00": "f:1: document 1: the file is UTF-16: save it as UTF-8",
		"kind: Pod\n# caf\xe9\n":       "f:2: document 1: byte 0xe9 is no UTF-8: save the file as UTF-8",
		"%YAML 1.2\n---\nkind: Pod\n":  "the directive %YAML names another version than 1.1",
	} {
		docs, err := manifest.Parse("f", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || string(docs[0].Text) != text {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// A comment that only begins like a mark is the user's.
func TestOnlyWholeLinesAreMarks(t *testing.T) {
	const text = "kind: Pod # drain-agent: begin\n# drain-agent: begin here, please\n# drain-agent: end of the story\n"
	if back, found, err := manifest.Restore([]byte(text)); err != nil || found || string(back) != text {
		t.Errorf("%v %v %q", err, found, back)
	}
}
