package main

import (
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// What is said of a Deployment is said of all else that makes pods; a Rollout is Argo's, of which the API server knows no more than its name.
func TestWarningsForEveryKind(t *testing.T) {
	s := apiServer(t)
	s.rollouts(t)
	s.controller(t)
	on := s.namespace(t, labelled, nil)
	pods := strings.TrimPrefix(deployment(badHook), "apiVersion: apps/v1\nkind: Deployment\n")
	job := strings.Replace(pods, "  selector: {matchLabels: {app: web}}\n", "", 1) + "      restartPolicy: Never\n"
	metadata, spec, _ := strings.Cut(job, "spec:\n")
	for kind, text := range map[string]string{
		"StatefulSet": "apiVersion: apps/v1\nkind: StatefulSet\n" + strings.Replace(pods, "spec:\n", "spec:\n  serviceName: web\n", 1),
		"DaemonSet":   "apiVersion: apps/v1\nkind: DaemonSet\n" + pods,
		"Job":         "apiVersion: batch/v1\nkind: Job\n" + job,
		"CronJob": "apiVersion: batch/v1\nkind: CronJob\n" + metadata + "spec:\n  schedule: \"0 0 1 1 *\"\n  jobTemplate:\n    spec:\n    " +
			strings.TrimRight(strings.ReplaceAll(spec, "\n", "\n    "), " "),
		"Rollout": "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\n" + pods,
	} {
		t.Run(kind, func(t *testing.T) {
			if said, err := s.try(t, on, text); err != nil || !strings.Contains(said, "drain-agent: sleep-over-grace: ") {
				t.Errorf("%v, warnings %q of\n%s", err, said, text)
			}
		})
	}
}

// rollouts has the API server take Argo's Rollouts, as they come, until the test ends.
func (s *server) rollouts(t *testing.T) {
	t.Helper()
	anything := true
	options := envtest.CRDInstallOptions{CRDs: []*apiextensionsv1.CustomResourceDefinition{{
		ObjectMeta: metav1.ObjectMeta{Name: "rollouts.argoproj.io"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "argoproj.io", Scope: apiextensionsv1.NamespaceScoped, Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "rollouts", Singular: "rollout", Kind: "Rollout", ListKind: "RolloutList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1alpha1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{
				OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &anything},
			}}},
		},
	}}}
	if _, err := envtest.InstallCRDs(s.config, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := envtest.UninstallCRDs(s.config, options); err != nil {
			t.Error(err)
		}
	})
}

// A value of the chart lets annotations name the image.
func TestImageOfAnAnnotationWhereAllowed(t *testing.T) {
	s := apiServer(t)
	s.controller(t, "--allow-agent-image")
	s.warnings.take()
	pod := s.create(t, s.namespace(t, labelled, nil), envoyPod, annotate("image", "registry.example/ours:2"))
	if agent, said := agentOf(pod), s.warnings.take(); agent == nil || agent.Image != "registry.example/ours:2" || said != "" {
		t.Errorf("agent %+v, warnings %q", agent, said)
	}
}
