//go:build e2e

package e2e

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The images of a release run by their digests, from the layout that it consists of: agent and app in a pod that stops cleanly, and the
// controller as far as its help. $RELEASE is a folder that `make release-dry-run` filled.
func TestReleaseByDigest(t *testing.T) {
	t.Parallel()
	folder := os.Getenv("RELEASE")
	if folder == "" {
		t.Skip("RELEASE names no release: make release-dry-run VERSION=v0.1.0, then RELEASE=$PWD/dist/release")
	}
	images := loadRelease(t, filepath.Join(folder, "images"))
	text, err := os.ReadFile(manifest("native"))
	if err != nil {
		t.Fatal(err)
	}
	changed := string(text)
	for _, name := range []string{"drain-agent", "drain-agent-app"} {
		dev := "image: ghcr.io/drain-agent/" + name + ":v0.1.0-dev\n"
		if !strings.Contains(changed, dev) {
			t.Fatalf("the manifest has no %q", dev)
		}
		changed = strings.ReplaceAll(changed, dev, "image: "+images[name].reference+"\n")
	}
	ns := namespace(t, "restricted")
	w := parse(t, []byte(changed), ns).replicas(1).start(t)
	seen := watch(t, ns)
	pod := running(t, w)[0]
	status := podNamed(t, ns, pod).Status
	ran := map[string]bool{}
	for _, s := range append(status.InitContainerStatuses, status.ContainerStatuses...) {
		for name, image := range images {
			ran[name] = ran[name] || strings.HasSuffix(s.ImageID, "/"+name+"@"+image.digest)
		}
	}
	if !ran["drain-agent"] || !ran["drain-agent-app"] {
		t.Errorf("what runs is %+v, want the digests of %v", status, images)
	}
	kubectl(t, "-n", ns, "delete", "pod", pod, "--wait=false")
	stoppedCleanly(t, "native", seen.gone(t, pod, time.Minute))

	help := corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "controller", Namespace: ns},
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{
			Name: "controller", Image: images["drain-controller"].reference, Args: []string{"--help"},
			SecurityContext: w.container("app").SecurityContext,
		}}, SecurityContext: w.spec().SecurityContext},
	}
	apply(t, ns, &help)
	eventually(t, time.Minute, "the controller has said its help", func() bool {
		return podNamed(t, ns, "controller").Status.Phase == corev1.PodSucceeded
	})
}

// released is an image of a release.
type released struct{ reference, digest string } // ghcr.io/drain-agent/NAME:VERSION@sha256:…

// loadRelease hands the layout to the node, each image named by its digest, as a pull by digest would name it.
func loadRelease(t *testing.T, layout string) map[string]released {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "release.tar")
	images := packRelease(t, layout, archive)
	if out, err := exec.CommandContext(t.Context(), clusterScript, "load", archive).CombinedOutput(); err != nil {
		t.Fatalf("load %s: %v: %s", archive, err, out)
	}
	return images
}

// packRelease writes the layout as an archive whose images have their digests for names, and returns them by their short names.
func packRelease(t *testing.T, layout, archive string) map[string]released {
	t.Helper()
	images := map[string]released{}
	var index struct {
		SchemaVersion int              `json:"schemaVersion"`
		Manifests     []map[string]any `json:"manifests"`
	}
	text, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &index); err != nil {
		t.Fatal(err)
	}
	for _, m := range index.Manifests {
		annotations, _ := m["annotations"].(map[string]any)
		tagged, _ := annotations["org.opencontainers.image.ref.name"].(string)
		digest, _ := m["digest"].(string)
		repository, _, ok := strings.Cut(tagged, ":v")
		if !ok || digest == "" {
			t.Fatalf("an image of %s has no reference: %v", layout, m)
		}
		annotations["io.containerd.image.name"] = repository + "@" + digest
		images[repository[strings.LastIndex(repository, "/")+1:]] = released{tagged + "@" + digest, digest}
	}
	if text, err = json.Marshal(index); err != nil {
		t.Fatal(err)
	}
	pack(t, layout, archive, text)
	return images
}

// pack writes a folder as an archive, with another index.json.
func pack(t *testing.T, folder, archive string, index []byte) {
	t.Helper()
	changed := filepath.Join(t.TempDir(), "layout")
	file, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	out := tar.NewWriter(file)
	err = errors.Join(os.CopyFS(changed, os.DirFS(folder)), os.WriteFile(filepath.Join(changed, "index.json"), index, 0o644), out.AddFS(os.DirFS(changed)))
	if err := errors.Join(err, out.Close(), file.Close()); err != nil {
		t.Fatal(err)
	}
}
