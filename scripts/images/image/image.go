// Package image makes container images out of files, without docker and without a registry. The same input gives the
// same bytes, on any machine with the same release of Go.
package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// An Image is one layer of Files, and how its container starts.
type Image struct {
	Files           []File
	Folders         map[string]int64 // beside those of Files: path to mode
	Arch            string           // amd64 or arm64; empty: this machine's
	User            string           // "uid:gid"
	Entrypoint, Cmd []string
	Env             []string
	Ports           []string // TCP
	Labels          map[string]string
	Created         time.Time // zero: 1970
	Compression     int       // of compress/gzip
}

// A File is copied from Source on this machine to the absolute Path in the image, readable and executable for everyone.
type File struct{ Source, Path string }

// Build reads the files and returns the image, in the media types of OCI.
func (i Image) Build() (v1.Image, error) {
	files, err := i.files()
	if err != nil {
		return nil, fmt.Errorf("write a layer: %w", err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil },
		tarball.WithCompressionLevel(i.Compression), tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	built, err := mutate.AppendLayers(base, layer)
	if err != nil {
		return nil, err
	}
	config, err := built.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", cmp.Or(i.Arch, runtime.GOARCH)
	config.Created = v1.Time{Time: time.Unix(max(0, i.Created.Unix()), 0).UTC()}
	config.History = nil // says when and how of a layer, which the labels say
	config.Config = v1.Config{User: i.User, Entrypoint: i.Entrypoint, Cmd: i.Cmd, Env: i.Env, Labels: i.Labels}
	for _, port := range i.Ports {
		if config.Config.ExposedPorts == nil {
			config.Config.ExposedPorts = map[string]struct{}{}
		}
		config.Config.ExposedPorts[port+"/tcp"] = struct{}{}
	}
	return mutate.ConfigFile(built, config)
}

// files is the layer as a tar archive, in the order of paths.
func (i Image) files() ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	folders := maps.Clone(i.Folders)
	if folders == nil {
		folders = map[string]int64{}
	}
	for _, file := range i.Files {
		for dir := path.Dir(file.Path); dir != "/"; dir = path.Dir(dir) {
			folders[dir] = cmp.Or(folders[dir], 0o755)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(folders)) {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: folders[dir]}); err != nil {
			return nil, err
		}
	}
	for _, file := range slices.SortedFunc(slices.Values(i.Files), func(a, b File) int { return cmp.Compare(a.Path, b.Path) }) {
		content, err := os.ReadFile(file.Source)
		if err != nil {
			return nil, err
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(file.Path, "/"), Mode: 0o755, Size: int64(len(content))}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	err := w.Close() // it writes the end, which must be among the bytes
	return out.Bytes(), err
}

// WriteArchive stores an image as `docker load` and containerd read it; a file that was there is replaced only when this
// one is complete.
func WriteArchive(file, tag string, built v1.Image) error {
	ref, err := name.NewTag(tag)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(filepath.Dir(file), ".image-*")
	if err != nil {
		return fmt.Errorf("write image %s: %w", tag, err)
	}
	defer os.RemoveAll(scratch)
	complete := filepath.Join(scratch, "image.tar")
	if err := tarball.WriteToFile(complete, ref, built); err != nil {
		return fmt.Errorf("write image %s: %w", tag, err)
	}
	return os.Rename(complete, file)
}

// Size returns the bytes that a node pulls.
func Size(built v1.Image) (all int64, err error) {
	layers, err := built.Layers()
	if err != nil {
		return 0, err
	}
	for _, layer := range layers {
		size, err := layer.Size()
		if err != nil {
			return 0, err
		}
		all += size
	}
	return all, nil
}
