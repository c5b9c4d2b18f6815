package image

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// Recipe is what a Dockerfile of this repository says: how its binary is built, and the image around it.
type Recipe struct {
	run        string // shell command that builds the binary, for a builder in which /out is a folder
	binary     string // path of the binary in the builder
	target     string // path of the binary in the image
	user       string
	ports      []string
	entrypoint []string
	cmd        []string
}

// instruction is a line of a Dockerfile; ours have no continuation lines.
var instruction = regexp.MustCompile(`(?m)^([A-Z]+)\s+(.+)$`)

// ReadRecipe reads a Dockerfile of two stages whose last stage is scratch plus one binary. It fails on anything else,
// so that an image built here is the one that docker would build.
func ReadRecipe(path string) (Recipe, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Recipe{}, err
	}
	builder, final, found := strings.Cut(string(text), "\nFROM scratch\n")
	if !found {
		return Recipe{}, fmt.Errorf("read %s: want a last stage FROM scratch", path)
	}
	var r Recipe
	for _, line := range instruction.FindAllStringSubmatch(builder, -1) {
		if line[1] == "RUN" {
			r.run = line[2] // the last one builds the binary
		}
	}
	var wrong []error
	for _, line := range instruction.FindAllStringSubmatch(final, -1) {
		if err := r.apply(line[1], line[2]); err != nil {
			wrong = append(wrong, fmt.Errorf("read %s: %s: %w", path, line[0], err))
		}
	}
	if r.run == "" || r.binary == "" || r.user == "" || len(r.entrypoint) == 0 {
		wrong = append(wrong, fmt.Errorf("read %s: want RUN, COPY --from=build, USER and ENTRYPOINT", path))
	}
	return r, errors.Join(wrong...)
}

func (r *Recipe) apply(instruction, rest string) error {
	switch instruction {
	case "COPY":
		from, err := fmt.Sscanf(rest, "--from=build %s %s", &r.binary, &r.target)
		if err != nil || from != 2 {
			return errors.New("want --from=build SOURCE TARGET")
		}
	case "USER":
		r.user = rest
	case "EXPOSE":
		r.ports = strings.Fields(rest)
	case "ENTRYPOINT":
		return json.Unmarshal([]byte(rest), &r.entrypoint)
	case "CMD":
		return json.Unmarshal([]byte(rest), &r.cmd)
	default:
		return errors.New("not known here")
	}
	return nil
}

// Compile runs the Dockerfile's build command for Linux in the repository at source, and returns the program in folder.
// env is "NAME=VALUE" for what the Dockerfile takes as ARG.
func (r Recipe) Compile(ctx context.Context, source, folder, arch string, env ...string) (string, error) {
	command := exec.CommandContext(ctx, "sh", "-c", strings.ReplaceAll(r.run, "/out/", folder+"/"))
	command.Dir, command.Stdout, command.Stderr = source, os.Stderr, os.Stderr
	command.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=-mod=readonly"), env...)
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("build for %s: %w", arch, err)
	}
	return filepath.Join(folder, path.Base(r.binary)), nil
}

// Image is the Dockerfile's last stage around the compiled program.
func (r Recipe) Image(program, arch string) Image {
	return Image{
		Files: []File{{Source: program, Path: r.target}}, Arch: arch, User: r.user, Ports: r.ports,
		Entrypoint: r.entrypoint, Cmd: r.cmd, Compression: gzip.BestCompression,
	}
}

// Program is the name of the program in the image.
func (r Recipe) Program() string { return path.Base(r.target) }
