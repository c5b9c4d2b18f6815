package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/drain-agent/drain-agent/scripts/images/image"
)

func TestSharedLibrariesOfAProgram(t *testing.T) {
	files, err := sharedLibraries(t.Context(), "/bin/ls")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(files, func(f image.File) bool { return filepath.Base(f.Path) == "libc.so.6" }) {
		t.Errorf("no libc among %v", files)
	}
}

// A tree is copied with its links to files; what Python compiled, and what others put beside its library, is not.
func TestTree(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.py", "deep/b.so", "deep/__pycache__/b.pyc", "test/c.py", "site-packages/d.py"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"file": "a.py", "folder": "deep", "nothing": "gone"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	files, libraries, err := tree(dir + ":/lib")
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, f := range append(files, libraries...) {
		paths = append(paths, f.Path)
	}
	if want := []string{"/lib/a.py", "/lib/file", "/lib/deep/b.so"}; !slices.Equal(paths, want) {
		t.Errorf("%v, want %v", paths, want)
	}
	if _, _, err := tree(dir); err == nil {
		t.Error("a tree without a path")
	}
}
