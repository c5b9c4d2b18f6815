package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestArchiveHoldsConfigManifestAndLayerThatAgree(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "program")
	if err := os.WriteFile(source, []byte("program"), 0o644); err != nil {
		t.Fatal(err)
	}
	image := Image{Name: "app:1", Files: []File{{source, "/usr/bin/app"}}, Entrypoint: []string{"/usr/bin/app", "run"}, User: "65532:65532"}
	first, second := filepath.Join(dir, "1.tar"), filepath.Join(dir, "2.tar")
	for _, archive := range []string{first, second} {
		if err := image.Write(archive); err != nil {
			t.Fatal(err)
		}
	}
	content := readTar(t, readFile(t, first))
	if again := readTar(t, readFile(t, second)); !maps.EqualFunc(content, again, bytes.Equal) {
		t.Error("the same image written twice differs")
	}
	var config struct {
		Config struct {
			Entrypoint []string
			User       string
		}
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(content["config.json"], &config); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("sha256:%x", sha256.Sum256(content["layer.tar"])); !slices.Equal(config.RootFS.DiffIDs, []string{want}) {
		t.Errorf("diff IDs %v, want %s", config.RootFS.DiffIDs, want)
	}
	if !slices.Equal(config.Config.Entrypoint, image.Entrypoint) || config.Config.User != image.User {
		t.Errorf("config %+v does not match %+v", config.Config, image)
	}
	var manifest []struct{ RepoTags, Layers []string }
	if err := json.Unmarshal(content["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest) != 1 || !slices.Equal(manifest[0].RepoTags, []string{"app:1"}) {
		t.Errorf("manifest %+v, want the one tag app:1", manifest)
	}
	layer := readTar(t, content["layer.tar"])
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
	image := Image{Name: "app:1", Files: []File{{"/does/not/exist", "/app"}}}
	if err := image.Write(archive); err == nil {
		t.Fatal("no error for a missing source file")
	}
	if got := string(readFile(t, archive)); got != "old" {
		t.Errorf("archive is %q, want it untouched", got)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(archive), ".image-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSharedLibrariesOfAProgram(t *testing.T) {
	files, err := sharedLibraries(t.Context(), "/bin/ls")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(files, func(f File) bool { return filepath.Base(f.Path) == "libc.so.6" }) {
		t.Errorf("no libc among %v", files)
	}
}

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
