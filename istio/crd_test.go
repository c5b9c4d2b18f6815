package istio_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// crds are Istio's CustomResourceDefinitions, by kind.
type crds map[string]*apiextensionsv1.CustomResourceDefinition

// istioCRDs reads the definitions that the module istio.io/api carries: the ones that `istioctl install` gives an API server.
func istioCRDs(t *testing.T) crds {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "istio.io/api").Output()
	if err != nil {
		t.Fatalf("find the module istio.io/api: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "kubernetes", "customresourcedefinitions.gen.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	found := crds{}
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		crd := new(apiextensionsv1.CustomResourceDefinition)
		if err := yaml.Unmarshal(document, crd); err != nil {
			t.Fatal(err)
		}
		if crd.Kind == "CustomResourceDefinition" {
			found[crd.Spec.Names.Kind] = crd
		}
	}
	return found
}

// accepts does what the API server does with strict field validation, kubectl's default: unknown fields first, then the schema.
func (c crds) accepts(object *unstructured.Unstructured) error {
	crd := c[object.GetKind()]
	if crd == nil {
		return fmt.Errorf("no CustomResourceDefinition for kind %s", object.GetKind())
	}
	schema, err := schemaOf(crd, object)
	if err != nil {
		return err
	}
	structural, err := structuralschema.NewStructural(schema.OpenAPIV3Schema)
	if err != nil {
		return err
	}
	var problems []error
	options := structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	for _, path := range pruning.PruneWithOptions(object.DeepCopy().Object, structural, true, options) {
		problems = append(problems, fmt.Errorf("unknown field %q", path))
	}
	validator, _, err := validation.NewSchemaValidator(schema.OpenAPIV3Schema)
	if err != nil {
		return err
	}
	for _, problem := range validation.ValidateCustomResource(field.NewPath(""), object.Object, validator) {
		problems = append(problems, problem)
	}
	return errors.Join(problems...)
}

func schemaOf(crd *apiextensionsv1.CustomResourceDefinition, object *unstructured.Unstructured) (*apiextensions.CustomResourceValidation, error) {
	group, version, _ := strings.Cut(object.GetAPIVersion(), "/")
	for _, v := range crd.Spec.Versions {
		if v.Name != version || !v.Served || group != crd.Spec.Group {
			continue
		}
		internal := new(apiextensions.CustomResourceValidation)
		return internal, apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(v.Schema, internal, nil)
	}
	return nil, fmt.Errorf("%s is not served as %s", object.GetKind(), object.GetAPIVersion())
}
