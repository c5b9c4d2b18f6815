package inject_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// What drainctl inject of the first edition, built from its last commit, made of shapes: at admission such a pod stays as it is, and drainctl
// inject makes of it what it makes of the shape.
func TestManifestsOfTheFirstEdition(t *testing.T) {
	files, err := filepath.Glob("testdata/first-edition/*.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		old, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		o := options(name)
		for _, w := range pods(t, name, old) {
			if w.Named("drain-agent") == nil {
				t.Errorf("%s: %s %s has no agent", name, w.Kind, w.Name)
			}
			before := podOf(w)
			out, after := admitted(t, w, nil, o)
			if out.State != inject.Already || len(out.Patch) > 0 || !equality.Semantic.DeepEqual(before.Spec, after.Spec) || !strings.Contains(out.Why, "drain-agent:v0.0.1") {
				t.Errorf("%s: %s (%s), changes %v", name, out.State, out.Why, out.Patch)
			}
		}
		o.Token = "TOKEN"
		want, _, err := inject.File(name, shapes(t)[name], o)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := inject.File(name, old, o); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, want)
		}
		if back, _, err := manifest.Restore(old); err != nil || !bytes.Equal(back, shapes(t)[name]) {
			t.Errorf("%s: uninject: %v\n%s", name, err, back)
		}
	}
}
