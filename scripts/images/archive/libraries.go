package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/drain-agent/drain-agent/scripts/images/image"
)

// sharedLibraries lists the loader and the libraries that a dynamically linked program needs on this machine, each at the
// path where the loader will look for it. It asks ldd, and fails where ldd does: for a static program too.
func sharedLibraries(ctx context.Context, program string) ([]image.File, error) {
	out, err := exec.CommandContext(ctx, "ldd", program).Output()
	if err != nil {
		return nil, fmt.Errorf("ask ldd for the libraries of %s: %w", program, err)
	}
	var files []image.File
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "not found") {
			return nil, fmt.Errorf("library of %s is missing here: %s", program, strings.TrimSpace(line))
		}
		for word := range strings.FieldsSeq(line) {
			if strings.HasPrefix(word, "/") {
				files = append(files, image.File{Source: word, Path: word})
			}
		}
	}
	return files, nil
}
