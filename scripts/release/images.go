package main

import (
	"context"
	"fmt"
	"maps"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/drain-agent/drain-agent/scripts/images/image"
)

// ociImage is one image for all platforms.
type ociImage struct {
	name, title string
	platforms   []image.Image
	digest      v1.Hash   // of its index
	digests     []v1.Hash // of its platforms
}

// refName is where a layout keeps the reference of what it holds.
const refName = "org.opencontainers.image.ref.name"

// layout writes all images into one OCI layout. Its index names an index for each image, and that one an image for each
// architecture.
func (r *release) layout(context.Context) error {
	path, err := layout.Write(r.out("images"), empty.Index)
	if err != nil {
		return err
	}
	for i := range r.images {
		index, err := r.index(&r.images[i])
		if err != nil {
			return err
		}
		reference := map[string]string{refName: registry + r.images[i].name + ":" + r.Version}
		if err := path.AppendIndex(index, layout.WithAnnotations(reference)); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) index(of *ociImage) (v1.ImageIndex, error) {
	says := map[string]string{
		"org.opencontainers.image.title":       of.name,
		"org.opencontainers.image.description": of.title,
		"org.opencontainers.image.version":     r.Version,
		"org.opencontainers.image.revision":    r.revision,
		"org.opencontainers.image.created":     r.when.Format("2006-01-02T15:04:05Z"),
		"org.opencontainers.image.source":      repository,
		"org.opencontainers.image.licenses":    "Apache-2.0",
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, platform := range of.platforms {
		platform.Labels, platform.Created = maps.Clone(says), r.when
		built, err := platform.Build()
		if err != nil {
			return nil, err
		}
		built = mutate.Annotations(built, says).(v1.Image) //nolint:forcetypeassert // what goes in comes out
		digest, err := built.Digest()
		if err != nil {
			return nil, err
		}
		of.digests = append(of.digests, digest)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: built, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: platform.Arch},
		}})
	}
	index = mutate.Annotations(index, says).(v1.ImageIndex) //nolint:forcetypeassert // what goes in comes out
	var err error
	of.digest, err = index.Digest()
	return index, err
}

// digest is what follows an image's version in a reference that cannot change: @sha256:…, or nothing where it is not built.
func (r *release) digest(image string) string {
	for _, of := range r.images {
		if of.name == image {
			return "@" + of.digest.String()
		}
	}
	return ""
}

type pushCmd struct {
	Out string `default:"dist/release" type:"path" help:"Folder that build filled."`
	To  string `default:"ghcr.io/drain-agent" help:"Registry and its path; who may push is in docker's configuration."`
}

// Run pushes every image and prints its reference with the digest.
func (c *pushCmd) Run(ctx context.Context) error {
	pushed, err := push(ctx, c.Out+"/images", c.To)
	for _, ref := range pushed {
		fmt.Fprintln(os.Stdout, ref)
	}
	return err
}
