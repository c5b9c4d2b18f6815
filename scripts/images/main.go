// Command images builds the images of this repository without docker: it runs the Dockerfile's own build command and
// puts the binary into an image, for amd64 and arm64. Then it unpacks the image of this machine and runs it.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

type flags struct {
	Source  string   `default:"." help:"Folder of the repository."`
	Out     string   `default:"dist" help:"Folder for the images."`
	Version string   `default:"" help:"What drain-agent version prints."`
	Arch    []string `default:"amd64,arm64" help:"Architectures to build for."`
}

func main() {
	var f flags
	kong.Parse(&f)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for image, dockerfile := range map[string]string{"drain-agent": "Dockerfile.agent", "drain-agent-app": "Dockerfile.app"} {
		if err := produce(ctx, f, image, dockerfile); err != nil {
			fmt.Fprintf(os.Stderr, "images: %s: %v\n", image, err)
			os.Exit(1)
		}
	}
}

// produce builds one image for both architectures and tries the one of this machine.
func produce(ctx context.Context, f flags, image, dockerfile string) error {
	r, err := readRecipe(filepath.Join(f.Source, dockerfile))
	if err != nil {
		return err
	}
	for _, arch := range f.Arch {
		binary, err := r.build(ctx, f, arch)
		if err != nil {
			return fmt.Errorf("build for %s: %w", arch, err)
		}
		built, err := r.assemble(binary, arch)
		if err != nil {
			return err
		}
		tag, err := name.NewTag(image + ":dev") // what the manifests name
		if err != nil {
			return err
		}
		file := filepath.Join(f.Out, image+"-"+arch+".tar")
		if err := tarball.WriteToFile(file, tag, built); err != nil {
			return err
		}
		size, err := compressed(built)
		if err != nil {
			return err
		}
		fmt.Printf("%s: %.1f MB compressed\n", file, float64(size)/1e6)
		if arch == runtime.GOARCH { // the others cannot run here
			if err := try(ctx, built); err != nil {
				return fmt.Errorf("run the image: %w", err)
			}
		}
	}
	return nil
}

// build runs the Dockerfile's build command and returns the binary.
func (r recipe) build(ctx context.Context, f flags, arch string) ([]byte, error) {
	out, err := os.MkdirTemp("", "drain-agent-image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(out)
	command := exec.CommandContext(ctx, "sh", "-c", strings.ReplaceAll(r.run, "/out/", out+"/"))
	command.Dir, command.Stdout, command.Stderr = f.Source, os.Stdout, os.Stderr
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "VERSION="+f.Version)
	if err := command.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(out, filepath.Base(r.binary)))
}

// assemble puts the binary into an image that differs only where the binary or the recipe does.
func (r recipe) assemble(binary []byte, arch string) (v1.Image, error) {
	var files bytes.Buffer
	archive := tar.NewWriter(&files)
	header := &tar.Header{Name: strings.TrimPrefix(r.target, "/"), Mode: 0o755, Size: int64(len(binary))}
	if err := archive.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := archive.Write(binary); err != nil {
		return nil, err
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(files.Bytes())), nil
	}, tarball.WithCompressionLevel(gzip.BestCompression))
	if err != nil {
		return nil, err
	}
	built, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := built.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Config.User, config.Config.Entrypoint, config.Config.Cmd = r.user, r.entrypoint, r.cmd
	config.Config.ExposedPorts = map[string]struct{}{}
	for _, port := range r.ports {
		config.Config.ExposedPorts[port+"/tcp"] = struct{}{}
	}
	return mutate.ConfigFile(built, config)
}

// compressed returns the bytes that a node pulls.
func compressed(built v1.Image) (int64, error) {
	layers, err := built.Layers()
	if err != nil {
		return 0, err
	}
	var all int64
	for _, layer := range layers {
		size, err := layer.Size()
		if err != nil {
			return 0, err
		}
		all += size
	}
	return all, nil
}
