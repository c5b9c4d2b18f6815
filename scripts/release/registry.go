package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	loopback "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// push hands every image of a layout to a registry, under the same name and tag, and returns the references by digest.
func push(ctx context.Context, folder, to string) (pushed []name.Digest, err error) {
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range manifest.Manifests {
		tag, err := name.NewTag(to + "/" + path.Base(d.Annotations[refName]))
		if err != nil {
			return nil, err
		}
		one, err := index.ImageIndex(d.Digest)
		if err != nil {
			return nil, err
		}
		if err := remote.WriteIndex(tag, one, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
			return nil, fmt.Errorf("push %s: %w", tag, err)
		}
		pushed = append(pushed, tag.Digest(d.Digest.String()))
	}
	return pushed, nil
}

// ownRegistry is a registry on the loopback interface, in memory: signing and verifying an image take one.
func ownRegistry() (address string, stop func()) {
	server := httptest.NewServer(loopback.New(loopback.WithReferrersSupport(true), loopback.Logger(log.New(io.Discard, "", 0))))
	return strings.TrimPrefix(server.URL, "http://"), server.Close
}
