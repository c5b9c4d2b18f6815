package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

const chart = "drain-controller"

var (
	chartVersion = regexp.MustCompile(`(?m)^version:.*$`)
	appVersion   = regexp.MustCompile(`(?m)^appVersion:.*$`)
)

// chart packs the Helm chart under the version of the release. Helm itself would write the time into the archive.
func (r *release) chart(context.Context) error {
	source := filepath.Join(r.Source, "deploy", "chart")
	if _, err := os.Stat(source); os.IsNotExist(err) {
		fmt.Fprintln(os.Stderr, "release: LEFT OUT: there is no deploy/chart")
		return nil
	}
	var out bytes.Buffer
	add, done := tarball(&out, r.when)
	err := filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(source, path)
		switch name {
		case "Chart.yaml":
			content = chartVersion.ReplaceAll(content, []byte("version: "+r.number()))
			content = appVersion.ReplaceAll(content, []byte("appVersion: "+r.Version))
		case "values.yaml":
			content = bytes.ReplaceAll(content, []byte(registry+"drain-agent:v0.1.0-dev"), []byte(registry+"drain-agent:"+r.Version+r.digest("drain-agent")))
			content = bytes.ReplaceAll(content, []byte(`  tag: ""`), []byte(`  tag: "`+r.Version+r.digest(chart)+`"`))
		}
		if err == nil {
			err = add(chart+"/"+filepath.ToSlash(name), 0o644, content)
		}
		return err
	})
	if err == nil {
		err = done()
	}
	if err != nil {
		return err
	}
	return write(r.out(r.chartArchive()), out.Bytes())
}

func (r *release) chartArchive() string { return chart + "-" + r.number() + ".tgz" }
