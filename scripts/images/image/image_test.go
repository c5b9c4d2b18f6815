package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
)

func TestArchiveHoldsConfigManifestAndLayerThatAgree(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "program")
	if err := os.WriteFile(source, []byte("program"), 0o644); err != nil {
		t.Fatal(err)
	}
	image := Image{
		Files: []File{{source, "/usr/bin/app"}}, Folders: map[string]int64{"/tmp": 0o1777}, Entrypoint: []string{"/usr/bin/app", "run"},
		User: "65532:65532", Labels: map[string]string{"a": "b"}, Created: time.Unix(1e9, 0),
	}
	first, second := filepath.Join(dir, "1.tar"), filepath.Join(dir, "2.tar")
	for _, archive := range []string{first, second} {
		built, err := image.Build()
		if err == nil {
			err = WriteArchive(archive, "app:1", built)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	content := readTar(t, readFile(t, first))
	if again := readTar(t, readFile(t, second)); !maps.EqualFunc(content, again, bytes.Equal) {
		t.Error("the same image written twice differs")
	}
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(content["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest) != 1 || len(manifest[0].RepoTags) != 1 || !strings.HasSuffix(manifest[0].RepoTags[0], "app:1") || len(manifest[0].Layers) != 1 {
		t.Fatalf("manifest %+v, want the one tag app:1 and one layer", manifest)
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(content[manifest[0].Config]))
	if err != nil {
		t.Fatal(err)
	}
	files, err := gzip.NewReader(bytes.NewReader(content[manifest[0].Layers[0]]))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(files)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(plain, make([]byte, 1024)) {
		t.Error("the layer is no whole tar archive: its end is missing")
	}
	if want := fmt.Sprintf("sha256:%x", sha256.Sum256(plain)); len(config.RootFS.DiffIDs) != 1 || config.RootFS.DiffIDs[0].String() != want {
		t.Errorf("diff IDs %v, want %s", config.RootFS.DiffIDs, want)
	}
	if !slices.Equal(config.Config.Entrypoint, image.Entrypoint) || config.Config.User != image.User || config.Config.Labels["a"] != "b" {
		t.Errorf("config %+v does not match %+v", config.Config, image)
	}
	if config.Architecture != runtime.GOARCH || !config.Created.Equal(image.Created) {
		t.Errorf("%s, created %v", config.Architecture, config.Created)
	}
	layer := readTar(t, plain)
	if got := slices.Sorted(maps.Keys(layer)); !slices.Equal(got, []string{"tmp/", "usr/", "usr/bin/", "usr/bin/app"}) {
		t.Errorf("layer holds %v", got)
	}
	if string(layer["usr/bin/app"]) != "program" {
		t.Errorf("program is %q", layer["usr/bin/app"])
	}
}

func TestFailedWriteLeavesTheOldArchive(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(archive, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := (Image{Files: []File{{"/does/not/exist", "/app"}}}).Build(); err == nil {
		t.Fatal("no error for a missing source file")
	}
	if err := WriteArchive(archive, "app:1", broken{empty.Image}); err == nil {
		t.Fatal("no error of an image that cannot be read")
	}
	if got := string(readFile(t, archive)); got != "old" {
		t.Errorf("archive is %q, want it untouched", got)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(archive), ".image-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// broken has a layer that nobody can read.
type broken struct{ v1.Image }

func (broken) Layers() ([]v1.Layer, error) { return nil, io.ErrUnexpectedEOF }

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func readTar(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	content := map[string][]byte{}
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return content
		}
		if err != nil {
			t.Fatal(err)
		}
		if content[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}
