package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// unpacked is what an archive holds.
func unpacked(t *testing.T, name string, content []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	if filepath.Ext(name) == ".zip" {
		archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.File {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			if files[f.Name], err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
		return files
	}
	plain, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return untar(t, plain)
}

func untar(t *testing.T, from io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for archive := tar.NewReader(from); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return files
		}
		if err == nil {
			files[header.Name], err = io.ReadAll(archive)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

var archiveName = regexp.MustCompile(`^(drainctl|drain-agent|drain-agent-app|drain-controller)_` + regexp.QuoteMeta(version()) + `_(linux|darwin|windows)_(amd64|arm64)\.(tar\.gz|zip)$`)

// programs calls with each program of each archive.
func programs(t *testing.T, each func(t *testing.T, archive, program, system, arch string, content []byte)) (n int) {
	t.Helper()
	entries, err := os.ReadDir(folderOf(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		is := archiveName.FindStringSubmatch(e.Name())
		if is == nil {
			continue
		}
		n++
		t.Run(e.Name(), func(t *testing.T) {
			files := unpacked(t, e.Name(), read(t, folderOf(t), e.Name()))
			if len(files["LICENSE"]) == 0 || len(files) != 2 {
				t.Errorf("holds %v", slices.Collect(maps.Keys(files)))
			}
			delete(files, "LICENSE")
			for program, content := range files {
				each(t, e.Name(), program, is[2], is[3], content)
			}
		})
	}
	return n
}

// Programs are for their system, need no library of it, and say their version and commit. Those of another architecture
// than this machine's are looked into and not run.
func TestPrograms(t *testing.T) {
	folderOf(t) // repo is known then
	commit, err := exec.CommandContext(t.Context(), "git", "-C", repo, "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	n := programs(t, func(t *testing.T, archive, program, system, arch string, content []byte) {
		info, err := buildinfo.Read(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		settings := map[string]string{}
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		if settings["GOOS"] != system || settings["GOARCH"] != arch || settings["CGO_ENABLED"] != "0" || settings["-trimpath"] != "true" {
			t.Errorf("built with %v", settings)
		}
		if system == "linux" {
			parsed, err := elf.NewFile(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range parsed.Progs {
				if p.Type == elf.PT_INTERP {
					t.Error("wants a loader: not static")
				}
			}
		}
		speaks := program != "app" && program != "drain-controller"
		if !bytes.Contains(content, []byte(version())) || program != "app" && !bytes.Contains(content, bytes.TrimSpace(commit)) {
			t.Error("version or commit is not in it")
		}
		if system != runtime.GOOS || arch != runtime.GOARCH || !speaks {
			return
		}
		path := filepath.Join(t.TempDir(), program)
		if err := os.WriteFile(path, content, 0o700); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), path, "version").CombinedOutput()
		if want := fmt.Sprintf("%s %s (commit %s, go", program, version(), bytes.TrimSpace(commit)); err != nil || !strings.HasPrefix(string(out), want) {
			t.Errorf("version: %v %s, want %s…", err, out, want)
		}
		if program != "drainctl" {
			return
		}
		help, err := exec.CommandContext(t.Context(), path, "inject", "--help").CombinedOutput()
		if want := digests(t)["drain-agent"]; err != nil || !bytes.Contains(help, []byte(want)) {
			t.Errorf("inject names another image than %s: %v", want, err)
		}
		installed, err := exec.CommandContext(t.Context(), path, "install").CombinedOutput()
		for _, want := range digests(t) {
			if err != nil || !bytes.Contains(installed, []byte(want)) && !strings.Contains(want, "-app:") || bytes.Contains(installed, []byte("no registry")) {
				t.Errorf("install: want %s: %v\n%.300s", want, err, installed)
			}
		}
	})
	if n == 0 || n < 10 && only() == nil {
		t.Errorf("%d archives", n)
	}
}
