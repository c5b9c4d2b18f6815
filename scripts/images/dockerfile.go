package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// recipe is what a Dockerfile of this repository says: how its binary is built, and the image around it.
type recipe struct {
	run        string // shell command that builds the binary, for a builder in which /out is a folder
	binary     string // path of the binary in the builder
	target     string // path of the binary in the image
	user       string
	ports      []string
	entrypoint []string
	cmd        []string
}

// instruction is a line of a Dockerfile; ours have no continuation lines.
var instruction = regexp.MustCompile(`(?m)^([A-Z]+)\s+(.+)$`)

// readRecipe reads a Dockerfile of two stages whose last stage is scratch plus one binary. It fails on anything else,
// so that an image built here is the one that docker would build.
func readRecipe(path string) (recipe, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return recipe{}, err
	}
	builder, final, found := strings.Cut(string(text), "\nFROM scratch\n")
	if !found {
		return recipe{}, fmt.Errorf("read %s: want a last stage FROM scratch", path)
	}
	var r recipe
	for _, line := range instruction.FindAllStringSubmatch(builder, -1) {
		if line[1] == "RUN" {
			r.run = line[2] // the last one builds the binary
		}
	}
	var wrong []error
	for _, line := range instruction.FindAllStringSubmatch(final, -1) {
		if err := r.apply(line[1], line[2]); err != nil {
			wrong = append(wrong, fmt.Errorf("read %s: %s: %w", path, line[0], err))
		}
	}
	if r.run == "" || r.binary == "" || r.user == "" || len(r.entrypoint) == 0 {
		wrong = append(wrong, fmt.Errorf("read %s: want RUN, COPY --from=build, USER and ENTRYPOINT", path))
	}
	return r, errors.Join(wrong...)
}

func (r *recipe) apply(instruction, rest string) error {
	switch instruction {
	case "COPY":
		from, err := fmt.Sscanf(rest, "--from=build %s %s", &r.binary, &r.target)
		if err != nil || from != 2 {
			return errors.New("want --from=build SOURCE TARGET")
		}
	case "USER":
		r.user = rest
	case "EXPOSE":
		r.ports = strings.Fields(rest)
	case "ENTRYPOINT":
		return json.Unmarshal([]byte(rest), &r.entrypoint)
	case "CMD":
		return json.Unmarshal([]byte(rest), &r.cmd)
	default:
		return errors.New("not known here")
	}
	return nil
}
