package deploy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// The plain manifests are what deploy/render writes, told here without a kubectl: a component that changed changes them too.
func TestManifestsAreRendered(t *testing.T) {
	examples, err := filepath.Glob("examples/*")
	if err != nil || len(examples) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy // as kubectl
	for _, example := range examples {
		built, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), example)
		if err != nil {
			t.Errorf("%s: %v", example, err)
			continue
		}
		text, err := built.AsYaml()
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join("manifests", filepath.Base(example)+".yaml")
		got, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		if want := fmt.Sprintf("# Written by deploy/render from deploy/%s/. The reasons for the fields stand there.\n%s", example, text); string(got) != want {
			t.Errorf("%s is not what its kustomization gives: deploy/render writes it", name)
		}
	}
}
