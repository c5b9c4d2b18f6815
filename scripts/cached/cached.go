// Package cached keeps what takes long to fetch or to build in the user's cache: other people's programs that tests and
// measurements run, none of which belongs in our go.mod.
package cached

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// GoProgram returns the program of a main package of another module, such as github.com/bojand/ghz/cmd/ghz, built at that
// version. The first call may take minutes and says so on standard error. The error holds what the go command wrote.
func GoProgram(ctx context.Context, pkg, version string) (string, error) {
	name := path.Base(pkg)
	dir, err := folder(name+"-"+version, func(dir string) error {
		fmt.Fprintf(os.Stderr, "building %s %s (once, minutes)\n", name, version)
		return run(ctx, []string{"CGO_ENABLED=0", "GOFLAGS=", "GOBIN=" + dir}, "go", "install", "-trimpath", "-ldflags=-s", pkg+"@"+version)
	})
	return filepath.Join(dir, name), err
}

// GoModule returns the folder with the files of a module at that version, its charts and manifests among them; it is read-only.
func GoModule(ctx context.Context, module, version string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module+"@"+version)
	cmd.Env = append(os.Environ(), "GOFLAGS=")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("get %s %s: %w: %s", module, version, err, out)
	}
	var got struct{ Dir string }
	if err := json.Unmarshal(out, &got); err != nil {
		return "", fmt.Errorf("get %s %s: %w", module, version, err)
	}
	return got.Dir, nil
}

// Python returns an interpreter that has the package of PyPI at that version; python3 must be able to make virtual environments.
func Python(ctx context.Context, name, version string) (string, error) {
	dir, err := folder("python-"+name+"-"+version, func(dir string) error {
		if err := run(ctx, nil, "python3", "-m", "venv", dir); err != nil {
			return err
		}
		return run(ctx, nil, filepath.Join(dir, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", name+"=="+version)
	})
	return filepath.Join(dir, "bin", "python3"), err
}

// folder returns the cache's folder of that name, filled by whoever came first and complete.
func folder(name string, fill func(dir string) error) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache for %s: %w", name, err)
	}
	dir := filepath.Join(cache, "drain-agent", name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("make the cache of %s: %w", name, err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), name+"-")
	if err != nil {
		return "", fmt.Errorf("make the cache of %s: %w", name, err)
	}
	defer os.RemoveAll(fresh)
	if err := fill(fresh); err != nil {
		return "", fmt.Errorf("get %s: %w", name, err)
	}
	if err := os.Rename(fresh, dir); err != nil {
		if _, there := os.Stat(dir); there != nil { // nobody else was quicker
			return "", fmt.Errorf("keep %s: %w", name, err)
		}
	}
	return dir, nil
}

func run(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return nil
}
