package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdxlib"
)

// material is what one artefact is made of: a program, whose linker has written into it which modules it holds.
type material struct {
	name, sha256, program string // without a program it holds text alone
	purl                  string // of the artefact itself
	images                []ociImage
}

// bills writes what each artefact is made of: sbom/NAME.spdx.json for each archive, for each image and architecture, and for
// the chart, which names images.
func (r *release) bills(context.Context) error {
	for _, p := range r.packed {
		sum, err := sha(r.out(p.archive))
		if err == nil {
			err = r.bill(material{name: p.archive, sha256: sum, program: p.program, purl: "pkg:github/drain-agent/drain-agent@" + r.Version})
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.archive, err)
		}
	}
	for _, of := range r.images {
		for i, platform := range of.platforms {
			name := fmt.Sprintf("%s_%s_linux_%s.image", of.name, r.Version, platform.Arch)
			purl := fmt.Sprintf("pkg:oci/%s@%s?arch=%s&repository_url=%s%s", of.name, of.digests[i], platform.Arch, registry, of.name)
			if err := r.bill(material{name: name, sha256: of.digests[i].Hex, program: platform.Files[0].Source, purl: purl}); err != nil { // images hold nothing else
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	archive := r.chartArchive()
	sum, err := sha(r.out(archive))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // as the step before has said
	}
	if err != nil {
		return err
	}
	return r.bill(material{name: archive, sha256: sum, purl: "pkg:helm/" + chart + "@" + r.number(), images: r.images})
}

// artefacts are the files that are handed out as they are.
func (r *release) artefacts() (names []string, err error) {
	entries, err := os.ReadDir(r.Out)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tar.gz") || strings.HasSuffix(e.Name(), ".zip") || strings.HasSuffix(e.Name(), ".tgz") {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (r *release) bill(of material) error {
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: of.name,
		DocumentNamespace: fmt.Sprintf("%s/releases/download/%s/%s.spdx.json#%s", repository, r.Version, of.name, of.sha256),
		CreationInfo: &spdx.CreationInfo{
			Created:  r.when.Format("2006-01-02T15:04:05Z"),
			Creators: []common.Creator{{CreatorType: "Organization", Creator: "drain-agent"}, {CreatorType: "Tool", Creator: "scripts/release"}},
		},
	}
	whole := spdxPackage("artefact", of.name, r.Version, of.purl)
	whole.PackageLicenseDeclared, whole.PackageSupplier = "Apache-2.0", &common.Supplier{SupplierType: "Organization", Supplier: "drain-agent"}
	whole.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: of.sha256}}
	whole.PackageDownloadLocation = fmt.Sprintf("%s/releases/download/%s/%s", repository, r.Version, of.name)
	if strings.HasPrefix(of.purl, "pkg:oci/") {
		whole.PackageDownloadLocation = "NOASSERTION"
	}
	doc.Packages = append(doc.Packages, whole)
	relate(doc, "DOCUMENT", "DESCRIBES", "artefact")
	modules, err := modulesOf(of.program)
	if err != nil {
		return err
	}
	for i, m := range modules {
		id := fmt.Sprintf("module-%d", i)
		doc.Packages = append(doc.Packages, spdxPackage(id, m.Path, m.Version, "pkg:golang/"+strings.ToLower(m.Path)+"@"+m.Version))
		relate(doc, "artefact", "CONTAINS", id)
	}
	for _, image := range of.images {
		id := "image-" + image.name
		doc.Packages = append(doc.Packages, spdxPackage(id, registry+image.name, r.Version, "pkg:oci/"+image.name+r.digest(image.name)))
		relate(doc, "artefact", "DEPENDS_ON", id)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		return err
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(doc); err != nil {
		return err
	}
	return write(r.out("sbom", filepath.Base(of.name)+".spdx.json"), text.Bytes())
}

// modulesOf lists what the linker has written into a program, if there is one.
func modulesOf(program string) ([]*debug.Module, error) {
	if program == "" {
		return nil, nil
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	modules := append([]*debug.Module{{Path: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go")}}, info.Deps...)
	for i, m := range modules {
		if m.Replace != nil {
			modules[i] = m.Replace
		}
	}
	return modules, nil
}

func spdxPackage(id, name, version, purl string) *spdx.Package {
	return &spdx.Package{
		PackageSPDXIdentifier: common.ElementID(id), PackageName: name, PackageVersion: version,
		PackageDownloadLocation: "NOASSERTION", FilesAnalyzed: false, IsFilesAnalyzedTagPresent: true,
		PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "NOASSERTION", PackageCopyrightText: "NOASSERTION",
		PackageExternalReferences: []*spdx.PackageExternalReference{{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: purl}},
	}
}

func relate(doc *spdx.Document, from, how, to string) {
	doc.Relationships = append(doc.Relationships, &spdx.Relationship{
		RefA: common.MakeDocElementID("", from), RefB: common.MakeDocElementID("", to), Relationship: how,
	})
}
