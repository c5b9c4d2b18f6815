package bare

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// A module with a replace cannot be installed by its path. What needs one lives in modules of its own below scripts and tools.
func TestTheRootModuleReplacesNothing(t *testing.T) {
	if replaced := root(t).Replace; len(replaced) > 0 {
		t.Errorf("go.mod replaces %s", replaced[0].Old.Path)
	}
}

func root(t *testing.T) *modfile.File {
	t.Helper()
	text, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// go install MODULE/…@VERSION needs no checkout: here from a module proxy that is a folder, with the last commit as its only version.
func TestProgramsAreInstalledByTheirPath(t *testing.T) {
	version := module.Version{Path: root(t).Module.Mod.Path, Version: "v0.0.1-installed"}
	cmd := exec.CommandContext(t.Context(), "go", "install", "-trimpath",
		version.Path+"/agent@"+version.Version, version.Path+"/deploy/drainctl@"+version.Version, version.Path+"/scripts/podsim@"+version.Version)
	bin := t.TempDir()
	cmd.Dir = bin // in no module
	cmd.Env = append(elsewhere(t, publish(t, version)), "GOBIN="+bin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	for program, help := range map[string]string{"agent": "--help", "drainctl": "--help", "podsim": "-h"} {
		out, err := exec.CommandContext(t.Context(), filepath.Join(bin, program), help).CombinedOutput()
		if err != nil && program != "podsim" || !bytes.Contains(out, []byte("-")) { // podsim says its flags and fails
			t.Errorf("%s %s: %v\n%s", program, help, err, out)
		}
	}
}

// elsewhere is the environment of a go command that knows no checkout of ours: only a module proxy, and what other modules
// this machine has.
func elsewhere(t *testing.T, proxy string) []string {
	t.Helper()
	goEnv := func(name string) string {
		out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	return append(os.Environ(),
		"GOMODCACHE="+t.TempDir(), "GOFLAGS=-modcacherw", "CGO_ENABLED=0", "GOWORK=off",
		"GONOSUMDB=*", "GOSUMDB=off", "GOPRIVATE=", "GONOPROXY=", // go.sum has checked the others here
		"GOPROXY=file://"+proxy+",file://"+filepath.Join(goEnv("GOMODCACHE"), "cache", "download")+","+goEnv("GOPROXY"))
}

// The examples of what others import run in a module of their own, with nothing of ours but what a proxy hands out.
func TestExamplesRunInAnotherModule(t *testing.T) {
	version := module.Version{Path: root(t).Module.Mod.Path, Version: "v0.0.1-imported"}
	env := append(elsewhere(t, publish(t, version)), "GOFLAGS=-modcacherw -mod=mod")
	dir := t.TempDir()
	gomod := "module example.com/other\n\ngo 1.26.0\n\nrequire " + version.Path + " " + version.Version + "\n"
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(gomod), 0o600); err != nil {
		t.Fatal(err)
	}
	for folder, example := range map[string]string{"probes": "../../probes/example_test.go", "timeline": "../../agent/timeline/example_test.go"} {
		text, err := os.ReadFile(example)
		if err == nil {
			err = os.Mkdir(filepath.Join(dir, folder), 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, folder, "example_test.go"), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-v", "./...")
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	for _, ran := range []string{"--- PASS: Example ", "--- PASS: ExampleDecode "} {
		if err != nil || !bytes.Contains(out, []byte(ran)) {
			t.Fatalf("%v, want %q in it\n%s", err, ran, out)
		}
	}
}

// publish writes the last commit as a version of the module, in the layout of a module proxy, and returns the folder.
func publish(t *testing.T, version module.Version) string {
	t.Helper()
	proxy := t.TempDir()
	dir := filepath.Join(proxy, filepath.FromSlash(version.Path), "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	archive, err := os.Create(filepath.Join(dir, version.Version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	clone := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "git", "clone", "-q", filepath.Join("..", ".."), clone).CombinedOutput(); err != nil {
		t.Fatalf("git clone: %v\n%s", err, out)
	}
	if err := zip.CreateFromVCS(archive, version, clone, "HEAD", ""); err != nil {
		t.Fatal(err)
	}
	gomod, err := os.ReadFile(filepath.Join(clone, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := json.Marshal(map[string]any{"Version": version.Version, "Time": time.Unix(0, 0).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{version.Version + ".mod": gomod, version.Version + ".info": info, "list": []byte(version.Version + "\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil { //nolint:gosec // read by the go command
			t.Fatal(err)
		}
	}
	return proxy
}
