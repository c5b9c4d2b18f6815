package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

type signCmd struct {
	Source string `default:"." type:"path" help:"Folder of the repository."`
	Out    string `default:"dist/release" type:"path" help:"Folder that build filled."`
	Key    string `type:"path" help:"Private key of cosign, its password in COSIGN_PASSWORD; without it a pair is made for this once."`
}

// Run signs the checksums, the provenance and every image with all it consists of. What it writes is not reproducible: a
// signature holds a number of chance.
func (c *signCmd) Run(ctx context.Context) error {
	scratch, err := os.MkdirTemp("", "release-sign-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	s := &signer{signCmd: *c, config: filepath.Join(scratch, "config.json")}
	if err := s.keys(ctx, scratch); err != nil {
		return err
	}
	// No service at all: neither a log nor a time stamp.
	if err := s.cosign(ctx, "signing-config", "create", "--out", s.config); err != nil {
		return err
	}
	with := []string{"--key", s.Key, "--signing-config", s.config, "--yes"}
	for _, args := range [][]string{
		append([]string{"sign-blob", "--bundle", s.out("SHA256SUMS.sigstore.json"), s.out("SHA256SUMS")}, with...),
		append([]string{"attest-blob", "--bundle", s.out("provenance.sigstore.json"), "--statement", s.out(provenanceFile)}, with...),
	} {
		if err := s.cosign(ctx, args...); err != nil {
			return err
		}
	}
	return s.images(ctx, with)
}

type signer struct {
	signCmd
	config, password string
}

func (s *signer) out(name string) string { return filepath.Join(s.Out, name) }

func (s *signer) keys(ctx context.Context, scratch string) error {
	s.password = os.Getenv("COSIGN_PASSWORD")
	if s.Key == "" {
		s.password, s.Key = rand.Text(), filepath.Join(scratch, "cosign.key")
		if err := s.cosign(ctx, "generate-key-pair", "--output-key-prefix", filepath.Join(scratch, "cosign")); err != nil {
			return err
		}
	}
	return s.cosign(ctx, "public-key", "--key", s.Key, "--outfile", s.out("cosign.pub"))
}

func (s *signer) cosign(ctx context.Context, args ...string) error {
	run := tool(ctx, s.Source, "cosign", args...)
	run.Env = append(os.Environ(), "COSIGN_PASSWORD="+s.password)
	return said(run)
}

func said(run *exec.Cmd) error {
	if out, err := run.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(run.Args[1:3], " "), err, out)
	}
	return nil
}

// images signs them in a registry of our own, as cosign knows no other way, and keeps what cosign left there in a layout
// beside the images: signatures.
func (s *signer) images(ctx context.Context, with []string) error {
	address, stop := ownRegistry()
	defer stop()
	pushed, err := push(ctx, s.out("images"), address)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(s.out("signatures")); err != nil {
		return err
	}
	kept, err := layout.Write(s.out("signatures"), empty.Index)
	if err != nil {
		return err
	}
	for _, ref := range pushed {
		if err := s.cosign(ctx, append([]string{"sign", "--recursive", "--allow-http-registry", ref.String()}, with...)...); err != nil {
			return err
		}
		parts, err := withParts(ctx, ref)
		if err != nil {
			return err
		}
		for _, part := range parts {
			if err := keep(ctx, kept, part); err != nil {
				return fmt.Errorf("keep the signature of %s: %w", part, err)
			}
		}
	}
	return nil
}

// withParts is an index and the images that it names.
func withParts(ctx context.Context, ref name.Digest) ([]name.Digest, error) {
	index, err := remote.Index(ref, remote.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	all := []name.Digest{ref}
	for _, d := range manifest.Manifests {
		all = append(all, ref.Context().Digest(d.Digest.String()))
	}
	return all, nil
}

// keep copies what refers to an image into a layout.
func keep(ctx context.Context, to layout.Path, ref name.Digest) error {
	referrers, err := remote.Referrers(ref, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	manifest, err := referrers.IndexManifest()
	if err != nil {
		return err
	}
	if len(manifest.Manifests) == 0 {
		return errors.New("there is none")
	}
	for _, d := range manifest.Manifests {
		signature, err := remote.Image(ref.Context().Digest(d.Digest.String()), remote.WithContext(ctx))
		if err != nil {
			return err
		}
		if err := to.AppendImage(signature, layout.WithAnnotations(map[string]string{refName: ref.Context().RepositoryStr()})); err != nil {
			return err
		}
	}
	return nil
}

// restore hands the signatures of a layout to a registry that has the images.
func restore(ctx context.Context, folder, to string) error {
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range manifest.Manifests {
		ref, err := name.NewDigest(to + "/" + d.Annotations[refName] + "@" + d.Digest.String())
		if err != nil {
			return err
		}
		var signature v1.Image
		if signature, err = index.Image(d.Digest); err == nil {
			err = remote.Write(ref, signature, remote.WithContext(ctx))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
