package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
)

// An Image is a root filesystem of Files and how its container starts. Name is "repository:tag"; User is "uid:gid".
type Image struct {
	Name       string
	Files      []File
	Entrypoint []string
	User       string
}

// A File is copied from Source on this machine to the absolute Path in the image, readable and executable for everyone.
type File struct {
	Source string
	Path   string
}

// Write stores the image as a docker archive; an archive that was there is replaced only when this one is complete.
func (i Image) Write(archive string) error {
	scratch, err := os.MkdirTemp(filepath.Dir(archive), ".image-*")
	if err != nil {
		return fmt.Errorf("write image %s: %w", i.Name, err)
	}
	defer os.RemoveAll(scratch)
	layer := filepath.Join(scratch, "layer.tar")
	digest, err := i.writeLayer(layer)
	if err != nil {
		return fmt.Errorf("write layer of image %s: %w", i.Name, err)
	}
	complete := filepath.Join(scratch, "image.tar")
	if err := i.writeArchive(complete, layer, digest); err != nil {
		return fmt.Errorf("write archive of image %s: %w", i.Name, err)
	}
	return os.Rename(complete, archive)
}

// writeLayer returns the digest of the uncompressed layer, which is also its diff ID.
func (i Image) writeLayer(name string) (string, error) {
	out, err := os.Create(name)
	if err != nil {
		return "", err
	}
	defer out.Close()
	sum := sha256.New()
	w := tar.NewWriter(io.MultiWriter(out, sum))
	for _, dir := range i.directories() {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: directoryMode(dir)}); err != nil {
			return "", err
		}
	}
	for _, file := range slices.SortedFunc(slices.Values(i.Files), func(a, b File) int { return cmp.Compare(a.Path, b.Path) }) {
		if err := addFile(w, file); err != nil {
			return "", err
		}
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return fmt.Sprintf("sha256:%x", sum.Sum(nil)), out.Close()
}

// directories lists every parent of every file, parents first, and /tmp, which programs expect to exist.
func (i Image) directories() []string {
	dirs := []string{"/tmp"}
	for _, file := range i.Files {
		for dir := path.Dir(file.Path); dir != "/"; dir = path.Dir(dir) {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

func directoryMode(dir string) int64 {
	if dir == "/tmp" {
		return 0o1777
	}
	return 0o755
}

func addFile(w *tar.Writer, file File) error {
	in, err := os.Open(file.Source)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file.Path[1:], Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(w, in)
	return err
}

func (i Image) writeArchive(name, layer, digest string) error {
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": "1970-01-01T00:00:00Z",
		"config": map[string]any{"Entrypoint": i.Entrypoint, "User": i.User, "Env": []string{"PATH=/usr/local/bin:/usr/bin:/bin:/"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{i.Name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	for _, part := range []struct {
		name    string
		content []byte
	}{{"manifest.json", manifest}, {"config.json", config}} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: part.name, Mode: 0o644, Size: int64(len(part.content))}); err != nil {
			return err
		}
		if _, err := io.Copy(w, bytes.NewReader(part.content)); err != nil {
			return err
		}
	}
	if err := addFile(w, File{Source: layer, Path: "/layer.tar"}); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.Close()
}
