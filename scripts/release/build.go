package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

const (
	repository = "https://github.com/drain-agent/drain-agent"
	registry   = "ghcr.io/drain-agent/"
)

type buildCmd struct {
	Source  string   `default:"." type:"path" help:"Folder of the repository."`
	Out     string   `default:"dist/release" type:"path" help:"Folder for the result; what is in it is removed."`
	Version string   `required:"" help:"v0.1.0 and the like."`
	Only    []string `help:"Platforms such as linux/amd64, for a try; all of them without it."`
}

// release is one that is being built.
type release struct {
	buildCmd
	revision string
	when     time.Time // of the commit: the only time that the result knows
	scratch  string    // folder for programs
	packed   []packed
	images   []ociImage
}

// packed is an archive and the program in it.
type packed struct{ archive, program string }

// Run builds everything.
func (c *buildCmd) Run(ctx context.Context) (err error) {
	if !semver.IsValid(c.Version) || semver.Canonical(c.Version) != c.Version {
		return fmt.Errorf("version %q: want one like v0.1.0", c.Version)
	}
	r := &release{buildCmd: *c}
	r.Only = slices.DeleteFunc(r.Only, func(platform string) bool { return platform == "" }) // as make hands it on
	if err := r.commit(ctx); err != nil {
		return err
	}
	if r.scratch, err = os.MkdirTemp("", "release-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.scratch)
	if err := errors.Join(os.RemoveAll(c.Out), os.MkdirAll(c.Out, 0o755)); err != nil { //nolint:gosec // others may read it
		return err
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"programs", r.programs},
		{"images", r.layout},
		{"drainctl", r.drainctls},
		{"chart", r.chart},
		{"bills of materials", r.bills},
		{"krew manifest", r.krew},
		{"release notes", r.notes},
		{"provenance", r.provenance},
		{"checksums", r.checksums},
	} {
		fmt.Fprintln(os.Stderr, "release:", step.name)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

func (r *release) commit(ctx context.Context) error {
	out, err := r.git(ctx, "log", "-1", "--format=%H %ct")
	if err != nil {
		return err
	}
	revision, seconds, _ := strings.Cut(out, " ")
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fmt.Errorf("time of the commit: %w", err)
	}
	r.revision, r.when = revision, time.Unix(unix, 0).UTC()
	changed, err := r.git(ctx, "status", "--porcelain")
	if err == nil && changed != "" {
		return fmt.Errorf("%s has changes that are in no commit, and the result would bear a commit's name:\n%s", r.Source, changed)
	}
	return err
}

func (r *release) git(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", r.Source}, args...)...).Output()
	if err != nil {
		return "", fmt.Errorf("git %s in %s: %w", args[0], r.Source, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// number is the version as it stands in file names' fields that want none of the v: 0.1.0.
func (r *release) number() string { return strings.TrimPrefix(r.Version, "v") }

// wants says whether a platform is asked for.
func (c *buildCmd) wants(system, arch string) bool {
	return len(c.Only) == 0 || slices.Contains(c.Only, system+"/"+arch)
}

func (r *release) out(names ...string) string {
	return filepath.Join(append([]string{r.Out}, names...)...)
}

// tool is one of the programs of tools/release/go.mod.
func tool(ctx context.Context, source, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, filepath.Join(source, "tools", "run"), append([]string{name}, args...)...)
}

func write(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // others may read it
		return err
	}
	return os.WriteFile(path, content, 0o644) //nolint:gosec // others may read it
}
