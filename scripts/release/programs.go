package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/drain-agent/drain-agent/scripts/images/image"
)

var arches = []string{"amd64", "arm64"}

// dockerfiles of the images, by the names of these.
var dockerfiles = []struct{ image, file, title string }{
	{"drain-agent", "Dockerfile.agent", "holds a pod's preStop hooks until the traffic through Envoy is gone"},
	{"drain-agent-app", "Dockerfile.app", "the demo payment service of drain-agent"},
	{"drain-controller", "deploy/controller/Dockerfile", "adds drain-agent to pods at admission"},
}

// programs builds and packs those of images, as their Dockerfiles say.
func (r *release) programs(ctx context.Context) error {
	for _, d := range dockerfiles {
		if _, err := os.Stat(filepath.Join(r.Source, "deploy", "controller")); err != nil && d.image == "drain-controller" {
			fmt.Fprintln(os.Stderr, "release: LEFT OUT: there is no deploy/controller")
			continue
		}
		recipe, err := image.ReadRecipe(filepath.Join(r.Source, d.file))
		if err != nil {
			return err
		}
		made := ociImage{name: d.image, title: d.title}
		for _, arch := range arches {
			if !r.wants("linux", arch) {
				continue
			}
			folder := filepath.Join(r.scratch, d.image, arch)
			if err := os.MkdirAll(folder, 0o750); err != nil {
				return err
			}
			program, err := recipe.Compile(ctx, r.Source, folder, arch, "VERSION="+r.Version, "REVISION="+r.revision)
			if err != nil {
				return err
			}
			made.platforms = append(made.platforms, recipe.Image(program, arch))
			if err := r.pack(d.image, "linux", arch, program, recipe.Program()); err != nil {
				return err
			}
		}
		r.images = append(r.images, made)
	}
	return nil
}

// drainctls builds and packs drainctl for all that has kubectl. It knows the images of its release, so they come first.
func (r *release) drainctls(ctx context.Context) error {
	for _, system := range []string{"linux", "darwin", "windows"} {
		for _, arch := range arches {
			if !r.wants(system, arch) {
				continue
			}
			if err := r.drainctl(ctx, system, arch); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *release) drainctl(ctx context.Context, system, arch string) error {
	called := "drainctl"
	if system == "windows" {
		called += ".exe"
	}
	program := filepath.Join(r.scratch, "drainctl", system, arch, called)
	stamps := map[string]string{
		"version": r.Version, "revision": r.revision, "agentDigest": r.digest("drain-agent"), "controllerDigest": r.digest(chart),
	}
	flags := "-s"
	for _, name := range slices.Sorted(maps.Keys(stamps)) {
		flags += " -X main." + name + "=" + stamps[name]
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags="+flags, "-o", program, "./deploy/drainctl")
	build.Dir, build.Stdout, build.Stderr = r.Source, os.Stderr, os.Stderr
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=-mod=readonly")
	if err := build.Run(); err != nil {
		return fmt.Errorf("build drainctl for %s/%s: %w", system, arch, err)
	}
	return r.pack("drainctl", system, arch, program, called)
}

// archive is the file name of a packed program.
func (r *release) archive(name, system, arch string) string {
	extension := ".tar.gz"
	if system == "windows" {
		extension = ".zip"
	}
	return fmt.Sprintf("%s_%s_%s_%s%s", name, r.Version, system, arch, extension)
}

// pack writes a program and the licence into an archive of the system's usual kind.
func (r *release) pack(name, system, arch, program, called string) error {
	var out bytes.Buffer
	add, done := tarball(&out, r.when)
	if system == "windows" {
		add, done = zipped(&out, r.when)
	}
	for _, file := range []struct {
		name, source string
		mode         int64
	}{{"LICENSE", filepath.Join(r.Source, "LICENSE"), 0o644}, {called, program, 0o755}} {
		content, err := os.ReadFile(file.source)
		if err == nil {
			err = add(file.name, file.mode, content)
		}
		if err != nil {
			return err
		}
	}
	if err := done(); err != nil {
		return err
	}
	r.packed = append(r.packed, packed{r.archive(name, system, arch), program})
	return write(r.out(r.archive(name, system, arch)), out.Bytes())
}

type adder func(name string, mode int64, content []byte) error

func tarball(out io.Writer, when time.Time) (add adder, done func() error) {
	packed, _ := gzip.NewWriterLevel(out, gzip.BestCompression) // fails for unknown levels only
	w := tar.NewWriter(packed)
	add = func(name string, mode int64, content []byte) error {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), ModTime: when}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		_, err := w.Write(content)
		return err
	}
	return add, func() error {
		if err := w.Close(); err != nil {
			return err
		}
		return packed.Close()
	}
}

func zipped(out io.Writer, when time.Time) (add adder, done func() error) {
	w := zip.NewWriter(out)
	return func(name string, mode int64, content []byte) error {
		header := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: when}
		header.SetMode(os.FileMode(mode)) //nolint:gosec // a constant
		f, err := w.CreateHeader(header)
		if err != nil {
			return err
		}
		_, err = f.Write(content)
		return err
	}, w.Close
}
