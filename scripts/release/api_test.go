package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What others import is compared with the last tag: an addition passes, a removal does not, until the changelog names it.
func TestAPIIsComparedWithTheLastTag(t *testing.T) {
	whole(t)
	source := filepath.Join(t.TempDir(), "source")
	if err := clone(source); err != nil {
		t.Fatal(err)
	}
	git := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", source}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	compare := func() (string, error) {
		out, err := exec.CommandContext(t.Context(), filepath.Join(source, "tools", "api")).CombinedOutput()
		return string(out), err
	}
	add := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(source, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const exported = "package probes\n\n// Extra is new.\nfunc Extra() {}\n"
	add("probes/extra.go", exported)
	git("add", "-A")
	git("-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "--no-verify", "-m", "extra")
	git("tag", "v0.999.0")
	add("probes/more.go", "package probes\n\n// More is newer.\nfunc More() {}\n")
	if out, err := compare(); err != nil {
		t.Errorf("an addition: %v\n%s", err, out)
	}
	if err := os.Remove(filepath.Join(source, "probes", "extra.go")); err != nil {
		t.Fatal(err)
	}
	if out, err := compare(); err == nil || !strings.Contains(out, "Extra") {
		t.Errorf("a removal: %v\n%s", err, out)
	}
	changelog, err := os.ReadFile(filepath.Join(source, "CHANGELOG.md"))
	if err != nil {
		t.Fatal(err)
	}
	add("CHANGELOG.md", strings.Replace(string(changelog), "## [Unreleased]\n", "## [Unreleased]\n\n### Removed\n- `probes`: no Extra.\n\n", 1))
	if out, err := compare(); err != nil {
		t.Errorf("a removal that the changelog names: %v\n%s", err, out)
	}
}
