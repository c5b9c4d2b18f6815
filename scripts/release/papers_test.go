package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
	"google.golang.org/protobuf/encoding/protojson"
)

// A bill of materials is valid SPDX and lists every module that the Go toolchain has written into the program.
func TestBillsOfMaterials(t *testing.T) {
	programs(t, func(t *testing.T, archive, _, system, arch string, content []byte) {
		info, err := buildinfo.Read(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		bills := []string{archive}
		if name, isImage := strings.CutSuffix(archive, ".tar.gz"); isImage && !strings.HasPrefix(archive, "drainctl") {
			bills = append(bills, name+".image")
		}
		for _, name := range bills {
			doc, err := spdxjson.Read(bytes.NewReader(read(t, folderOf(t), "sbom", name+".spdx.json")))
			if err == nil {
				err = spdxlib.ValidateDocument(doc)
			}
			if err != nil {
				t.Fatal(err)
			}
			listed := map[string]bool{}
			for _, p := range doc.Packages {
				listed[p.PackageName+" "+p.PackageVersion] = true
			}
			if doc.SPDXVersion != "SPDX-2.3" || doc.DocumentName != name {
				t.Errorf("%s of %s", doc.SPDXVersion, doc.DocumentName)
			}
			for _, m := range info.Deps {
				if !listed[m.Path+" "+m.Version] {
					t.Errorf("%s: %s %s is not listed", name, m.Path, m.Version)
				}
			}
		}
	})
	for _, name := range handedOut(t) {
		doc, err := spdxjson.Read(bytes.NewReader(read(t, folderOf(t), "sbom", name+".spdx.json")))
		if err == nil {
			err = spdxlib.ValidateDocument(doc)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if sum := fmt.Sprintf("%x", sha256.Sum256(read(t, folderOf(t), name))); doc.Packages[0].PackageChecksums[0].Value != sum {
			t.Errorf("%s: the bill is of another file", name)
		}
	}
}

// handedOut are the files that are handed out as they are.
func handedOut(t *testing.T) []string {
	t.Helper()
	names, err := (&release{buildCmd: buildCmd{Out: folderOf(t)}}).artefacts()
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	return names
}

// The statement names every artefact and image with its digest, and the commit.
func TestProvenance(t *testing.T) {
	var statement intoto.Statement
	if err := protojson.Unmarshal(read(t, folderOf(t), provenanceFile), &statement); err != nil {
		t.Fatal(err)
	}
	if err := statement.Validate(); err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(statement.GetPredicate())
	if err != nil {
		t.Fatal(err)
	}
	var says slsa.Provenance
	if err := protojson.Unmarshal(text, &says); err != nil {
		t.Fatal(err)
	}
	if err := says.Validate(); err != nil {
		t.Error(err)
	}
	images := 0
	for _, subject := range statement.GetSubject() {
		if strings.HasPrefix(subject.GetName(), registry) {
			images++
			blob := filepath.Join(folderOf(t), "images", "blobs", "sha256", subject.GetDigest()["sha256"])
			if _, err := os.Stat(blob); err != nil {
				t.Errorf("%s: %v", subject.GetName(), err)
			}
			continue
		}
		if is := fmt.Sprintf("%x", sha256.Sum256(read(t, folderOf(t), subject.GetName()))); is != subject.GetDigest()["sha256"] {
			t.Errorf("%s: %s", subject.GetName(), is)
		}
	}
	if images < 2 || len(statement.GetSubject()) < 12 && only() == nil {
		t.Errorf("%d subjects, %d images", len(statement.GetSubject()), images)
	}
}

// What users type verifies, and a changed byte, another image or another key does not.
func TestSignatures(t *testing.T) {
	whole(t)
	folder := folderOf(t)
	cosign := func(args ...string) error { return said(tool(t.Context(), "../..", "cosign", args...)) }
	key := []string{"--key", filepath.Join(folder, "cosign.pub"), "--insecure-ignore-tlog"}
	blob := func(file string) error {
		return cosign(append([]string{"verify-blob", "--bundle", filepath.Join(folder, "SHA256SUMS.sigstore.json"), file}, key...)...)
	}
	provenance := func(file string) error {
		return cosign(append([]string{
			"verify-blob-attestation", "--type", "slsaprovenance1", "--bundle", filepath.Join(folder, "provenance.sigstore.json"), file,
		}, key...)...)
	}
	artefact := fmt.Sprintf("drain-agent_%s_linux_amd64.tar.gz", version())
	changed := func(name string) string {
		content := read(t, folder, name)
		content[len(content)/2] ^= 1
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	address, stop := ownRegistry()
	defer stop()
	pushed, err := push(t.Context(), filepath.Join(folder, "images"), address)
	if err != nil {
		t.Fatal(err)
	}
	image := func(ref string) error {
		return cosign(append([]string{"verify", "--allow-http-registry", ref}, key...)...)
	}
	if image(pushed[0].String()) == nil {
		t.Error("an image without a signature verifies")
	}
	if err := restore(t.Context(), filepath.Join(folder, "signatures"), address); err != nil {
		t.Fatal(err)
	}
	good := map[string]error{"checksums": blob(filepath.Join(folder, "SHA256SUMS")), "provenance": provenance(filepath.Join(folder, artefact))}
	bad := map[string]error{"changed checksums": blob(changed("SHA256SUMS")), "provenance of a changed file": provenance(changed(artefact))}
	for _, ref := range pushed {
		parts, err := withParts(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range parts {
			good[part.String()] = image(part.String())
		}
	}
	other := t.TempDir()
	t.Setenv("COSIGN_PASSWORD", "another")
	if err := cosign("generate-key-pair", "--output-key-prefix", filepath.Join(other, "cosign")); err != nil {
		t.Fatal(err)
	}
	key[1] = filepath.Join(other, "cosign.pub")
	bad["image by another key"], bad["checksums by another key"] = image(pushed[0].String()), blob(filepath.Join(folder, "SHA256SUMS"))
	for what, err := range good {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, err := range bad {
		if err == nil {
			t.Errorf("%s verifies", what)
		}
	}
	var bundle map[string]json.RawMessage
	if err := json.Unmarshal(read(t, folder, "provenance.sigstore.json"), &bundle); err != nil || bundle["dsseEnvelope"] == nil {
		t.Errorf("the provenance is signed as %v, want a DSSE envelope", slices.Collect(maps.Keys(bundle)))
	}
}
