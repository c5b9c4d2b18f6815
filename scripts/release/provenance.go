package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

// provenanceFile holds an in-toto statement: which commit all artefacts and images come from, and how they were built.
const provenanceFile = "provenance.intoto.json"

func (r *release) provenance(context.Context) error {
	statement := &intoto.Statement{Type: intoto.StatementTypeUri, PredicateType: "https://slsa.dev/provenance/v1"}
	names, err := r.artefacts()
	if err != nil {
		return err
	}
	for _, name := range names {
		sum, err := sha(r.out(name))
		if err != nil {
			return err
		}
		statement.Subject = append(statement.Subject, &intoto.ResourceDescriptor{Name: name, Digest: map[string]string{"sha256": sum}})
	}
	for _, of := range r.images {
		statement.Subject = append(statement.Subject, &intoto.ResourceDescriptor{
			Name: registry + of.name + ":" + r.Version, Digest: map[string]string{"sha256": of.digest.Hex},
		})
	}
	built, err := r.howBuilt()
	if err == nil {
		statement.Predicate, err = predicate(built)
	}
	if err == nil {
		err = statement.Validate()
	}
	if err != nil {
		return err
	}
	text, err := settled(protojson.Marshal(statement))
	if err != nil {
		return err
	}
	return write(r.out(provenanceFile), text)
}

func (r *release) howBuilt() (*slsa.Provenance, error) {
	external, err := structpb.NewStruct(map[string]any{"version": r.Version, "source": repository + "@" + r.revision})
	if err != nil {
		return nil, err
	}
	internal, err := structpb.NewStruct(map[string]any{"go": runtime.Version()})
	if err != nil {
		return nil, err
	}
	return &slsa.Provenance{
		BuildDefinition: &slsa.BuildDefinition{
			BuildType: repository + "/tree/main/scripts/release", ExternalParameters: external, InternalParameters: internal,
			ResolvedDependencies: []*intoto.ResourceDescriptor{{Uri: "git+" + repository, Digest: map[string]string{"gitCommit": r.revision}}},
		},
		// In a workflow of GitHub the reference of the workflow, else a person's machine.
		RunDetails: &slsa.RunDetails{Builder: &slsa.Builder{Id: "https://" + cmp.Or(os.Getenv("BUILDER_ID"), "localhost/dry-run")}},
	}, nil
}

func predicate(p *slsa.Provenance) (*structpb.Struct, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	text, err := protojson.Marshal(p)
	if err != nil {
		return nil, err
	}
	s := new(structpb.Struct)
	return s, protojson.Unmarshal(text, s)
}

// settled takes the whitespace away that protojson adds by chance.
func settled(text []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return nil, err
	}
	text, err = json.MarshalIndent(value, "", "  ")
	return append(text, '\n'), err
}

// checksums writes SHA256SUMS of every file, those of the images' layout apart: these bear their digests as names.
func (r *release) checksums(context.Context) error {
	var sums bytes.Buffer
	err := filepath.WalkDir(r.Out, func(path string, entry fs.DirEntry, err error) error {
		name, _ := filepath.Rel(r.Out, path) // it is below
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return nil
		case strings.HasPrefix(name, "images/blobs/"):
			return nil
		}
		sum, err := sha(path)
		fmt.Fprintf(&sums, "%s  %s\n", sum, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		return err
	}
	return write(r.out("SHA256SUMS"), sums.Bytes())
}

func sha(path string) (string, error) {
	content, err := os.ReadFile(path)
	return fmt.Sprintf("%x", sha256.Sum256(content)), err
}
