// Command images builds the images of this repository without docker: it runs the Dockerfile's own build command and
// puts the binary into an image, for amd64 and arm64. Then it unpacks the image of this machine and runs it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/alecthomas/kong"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/drain-agent/drain-agent/scripts/images/image"
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
	for called, dockerfile := range map[string]string{"drain-agent": "Dockerfile.agent", "drain-agent-app": "Dockerfile.app"} {
		if err := produce(ctx, f, called, dockerfile); err != nil {
			fmt.Fprintf(os.Stderr, "images: %s: %v\n", called, err)
			os.Exit(1)
		}
	}
}

// produce builds one image for both architectures and tries the one of this machine.
func produce(ctx context.Context, f flags, called, dockerfile string) error {
	r, err := image.ReadRecipe(filepath.Join(f.Source, dockerfile))
	if err != nil {
		return err
	}
	for _, arch := range f.Arch {
		built, err := build(ctx, f, r, arch)
		if err != nil {
			return err
		}
		file := filepath.Join(f.Out, called+"-"+arch+".tar")
		if err := image.WriteArchive(file, "ghcr.io/drain-agent/"+called+":v0.1.0-dev", built); err != nil { // what the manifests name
			return err
		}
		size, err := image.Size(built)
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

func build(ctx context.Context, f flags, r image.Recipe, arch string) (v1.Image, error) {
	folder, err := os.MkdirTemp("", "drain-agent-image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	program, err := r.Compile(ctx, f.Source, folder, arch, "VERSION="+f.Version, "REVISION=")
	if err != nil {
		return nil, err
	}
	return r.Image(program, arch).Build()
}
