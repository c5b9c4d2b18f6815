package main

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version and revision (the commit) are set by the linker; without that they come from the build information.
var version, revision string //nolint:gochecknoglobals // -ldflags -X needs variables

// Digests of the images of the same release, as @sha256:…, set by the linker where they are known.
var agentDigest, controllerDigest string //nolint:gochecknoglobals // -ldflags -X needs variables

// released is the image of the same release in the place of one that nobody can pull; before there is a release, that one.
func released(image, digest string) string {
	if version == "" {
		return image
	}
	return image[:strings.LastIndex(image, ":")+1] + version + digest
}

func agentImage() string { return released(unpublished, agentDigest) }

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, commit, goVersion := version, revision, ""
			if info, ok := debug.ReadBuildInfo(); ok {
				v, goVersion = cmp.Or(v, info.Main.Version), info.GoVersion
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						commit = cmp.Or(commit, s.Value)
					}
				}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "drainctl %s (commit %s, %s)\n", v, cmp.Or(commit, "unknown"), goVersion)
			return err
		},
	}
}
