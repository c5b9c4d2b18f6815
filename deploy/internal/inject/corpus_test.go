package inject_test

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// corpus returns the folder of public manifests: make corpus CORPUS=DIR.
func corpus(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("CORPUS")
	if dir == "" {
		t.Skip("CORPUS names no folder: make corpus CORPUS=DIR")
	}
	return dir
}

func TestCorpusHasTheRolesThatWereRead(t *testing.T) {
	dir := corpus(t)
	table, err := os.Open("../roles/testdata/corpus.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	right, likely, unsure, open, workloads := 0, 0, 0, 0, 0
	seen := map[string]int{}
	for rows := bufio.NewScanner(table); rows.Scan(); {
		row := strings.Split(rows.Text(), "\t")
		if strings.HasPrefix(row[0], "#") {
			continue
		}
		w, objects := nth(t, filepath.Join(dir, row[0]), row[1], seen)
		if w == nil {
			t.Errorf("%s: no %s", row[0], row[1])
			continue
		}
		workloads++
		found := w.Roles(objects, "", nil)
		for want := range strings.FieldsSeq(row[2]) {
			name, any, _ := strings.Cut(want, "=")
			got, has := found.Named(name)
			fits := slices.Contains(strings.Split(any, "|"), string(got.Role))
			switch {
			case !has:
				t.Errorf("%s: %s has no container %s", row[0], row[1], name)
			case got.Confidence == roles.High && !fits:
				t.Errorf("%s: %s: %s is %s and said to be %s: %s", row[0], row[1], name, any, got.Role, got.Evidence)
			case strings.HasSuffix(any, "?"):
				open++
			case got.Confidence == roles.Unsure:
				unsure++
			case fits:
				right++
			default:
				likely++
				t.Logf("%s: %s: %s is %s, %s is likely: %s", row[0], row[1], name, any, got.Role, got.Evidence)
			}
		}
	}
	t.Logf("%d workloads; roles right %d, wrong though called likely %d, asked %d; nobody could tell %d", workloads, right, likely, unsure, open)
	if all := right + likely + unsure; all == 0 || right*100 < all*95 {
		t.Errorf("%d of %d roles are right", right, all)
	}
}

// nth returns the next workload of that kind and name in a file; a name may stand in it twice.
func nth(t *testing.T, file, name string, seen map[string]int) (*manifest.Workload, []*manifest.Object) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	docs, _ := manifest.Parse(file, text) // documents that cannot be read have no rows
	objects := manifest.Objects(docs)
	skip := seen[file+name]
	seen[file+name]++
	for _, o := range objects {
		if o.Workload != nil && o.Kind+"/"+o.Name == name {
			if skip == 0 {
				return o.Workload, objects
			}
			skip--
		}
	}
	return nil, nil
}

func TestCorpusComesOutValid(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(corpus(t), "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	injected, asked := 0, 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		o := options("corpus")
		o.KeepGoing, o.Token = true, "TOKEN"
		once, reports, err := inject.File(name, text, o)
		if err != nil {
			asked++
			t.Logf("%v", err)
		}
		if once == nil {
			continue
		}
		if twice, _, _ := inject.File(name, once, o); !bytes.Equal(once, twice) {
			t.Errorf("%s: the second run changes something", name)
		}
		if back, _, err := manifest.Restore(once); err != nil || !bytes.Equal(back, text) {
			t.Errorf("%s: uninject does not return the original (%v)", name, err)
		}
		before, _ := manifest.Parse(name, text)
		after, _ := manifest.Parse(name, once)
		was, is := manifest.Objects(before), manifest.Objects(after)
		for i, r := range is {
			if r.Workload == nil || r.Workload.Named(inject.AgentContainer) == nil {
				continue
			}
			if a, b := level(t, was[i].Workload), level(t, r.Workload); a != b {
				t.Errorf("%s: %s %s was %s and is %s", name, r.Kind, r.Name, a, b)
			}
			raw, err := yaml.Marshal(value(t, r.Workload.Template))
			var as any = &corev1.PodTemplateSpec{}
			if r.Kind == "Pod" {
				as = &corev1.Pod{}
			}
			strict := func(raw []byte) error { return yaml.UnmarshalStrict(raw, as) }
			if err == nil {
				err = strict(raw)
			}
			if err != nil && decodes(t, was[i].Workload) {
				t.Errorf("%s: %s %s: %v", name, r.Kind, r.Name, err)
			}
		}
		injected += len(planned(reports))
	}
	t.Logf("%d files, %d workloads injected, %d files with questions or errors", len(files), injected, asked)
}

// decodes reports whether a pod was one by strict reading before anything was added to it.
func decodes(t *testing.T, w *manifest.Workload) bool {
	t.Helper()
	raw, err := yaml.Marshal(value(t, w.Template))
	if err != nil {
		t.Fatal(err)
	}
	if w.Kind == "Pod" {
		return yaml.UnmarshalStrict(raw, &corev1.Pod{}) == nil
	}
	return yaml.UnmarshalStrict(raw, &corev1.PodTemplateSpec{}) == nil
}
