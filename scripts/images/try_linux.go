package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// try unpacks the image and runs its entrypoint with --help, with nothing but the image as its root, which its user
// cannot write: what fails here is a binary that is not static, a wrong path or a missing permission.
func try(ctx context.Context, built v1.Image) error {
	root, err := os.MkdirTemp("", "drain-agent-root-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	if err := unpack(built, root); err != nil {
		return err
	}
	if err := os.Chmod(root, 0o555); err != nil { //nolint:gosec // any user must be able to enter it
		return err
	}
	config, err := built.ConfigFile()
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, config.Config.Entrypoint[0], "--help")
	command.Dir, command.Env = "/", []string{}
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	const user = 12345 // some user that the image does not know, as clusters with their own user ranges pick
	if os.Getuid() == 0 {
		command.SysProcAttr.Credential = &syscall.Credential{Uid: user, Gid: user}
	} else {
		command.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Getuid(), Size: 1}}
		command.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Getgid(), Size: 1}}
	}
	out, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	fmt.Printf("ran as user %d with the image as its root: %s --help\n", user, config.Config.Entrypoint[0])
	return nil
}

// unpack writes the image's files below root. Our images hold plain files only.
func unpack(built v1.Image, root string) error {
	files := mutate.Extract(built)
	defer files.Close()
	archive := tar.NewReader(files)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(header.Name) || header.Typeflag != tar.TypeReg {
			return fmt.Errorf("unpack %s: not a plain file", header.Name)
		}
		if err := writeFile(filepath.Join(root, header.Name), header.FileInfo().Mode(), archive); err != nil {
			return err
		}
	}
}

func writeFile(path string, mode os.FileMode, from io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, from); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}
