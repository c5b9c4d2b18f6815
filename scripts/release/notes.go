package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	krew "sigs.k8s.io/krew/pkg/index"
	"sigs.k8s.io/yaml"
)

// notes cuts the version's section out of the changelog; before it has one, that of what is not released yet.
func (r *release) notes(context.Context) error {
	text, err := os.ReadFile(filepath.Join(r.Source, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	section, err := cut(string(text), r.number())
	if err != nil {
		return err
	}
	notes := fmt.Sprintf("# drain-agent %s\n\n%s\n\n## Images\n\n", r.Version, section)
	for _, of := range r.images {
		notes += fmt.Sprintf("- `%s%s:%s@%s`\n", registry, of.name, r.Version, of.digest)
	}
	notes += fmt.Sprintf("\nHow to verify them: %s/blob/%s/docs/how-to/verify-a-release.md\n", repository, r.Version)
	return write(r.out("RELEASE_NOTES.md"), []byte(notes))
}

func cut(changelog, number string) (string, error) {
	for _, name := range []string{regexp.QuoteMeta(number), "Unreleased"} {
		found := regexp.MustCompile(`(?ms)^## \[` + name + `\][^\n]*\n(.*?)(?:^## |\z)`).FindStringSubmatch(changelog)
		if found != nil && strings.TrimSpace(found[1]) != "" {
			return strings.TrimSpace(found[1]), nil
		}
	}
	return "", fmt.Errorf("CHANGELOG.md has a section neither for [%s] nor for [Unreleased]", number)
}

// plugin is what kubectl's plugin manager calls drainctl: kubectl drain-agent.
const plugin = "drain-agent"

// krew writes the manifest for kubectl's plugin manager.
func (r *release) krew(context.Context) error {
	p := krew.Plugin{
		TypeMeta:   metav1.TypeMeta{APIVersion: "krew.googlecontainertools.github.com/v1alpha2", Kind: "Plugin"},
		ObjectMeta: metav1.ObjectMeta{Name: plugin},
		Spec: krew.PluginSpec{
			Version: r.Version, Homepage: repository, ShortDescription: "Stop Envoy pods without loss",
			Description: "Adds drain-agent to manifests, explains mistakes in the lifecycle of pods before they hurt,\n" +
				"draws the budget of a grace period, and draws drains that are over.\n",
		},
	}
	for _, system := range []string{"linux", "darwin", "windows"} {
		for _, arch := range arches {
			if !r.wants(system, arch) {
				continue
			}
			name, bin := r.archive("drainctl", system, arch), "drainctl"
			if system == "windows" {
				bin += ".exe"
			}
			sum, err := sha(r.out(name))
			if err != nil {
				return err
			}
			p.Spec.Platforms = append(p.Spec.Platforms, krew.Platform{
				URI: fmt.Sprintf("%s/releases/download/%s/%s", repository, r.Version, name), Sha256: sum, Bin: bin,
				Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"os": system, "arch": arch}},
				Files:    []krew.FileOperation{{From: bin, To: "."}, {From: "LICENSE", To: "."}},
			})
		}
	}
	text, err := yaml.Marshal(p)
	if err != nil {
		return err
	}
	return write(r.out("krew", plugin+".yaml"), text)
}
