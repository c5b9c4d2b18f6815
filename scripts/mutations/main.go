// Command mutations breaks one promise of the core at a time and asks whether the simulation alone sees it, within the stops that
// it plays in the test suite. The checkout is left as it is: go's -overlay puts the broken file in the place of the real one.
//
//	go run ./scripts/mutations [-only TEXT] [-stops 300]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

func main() {
	only := flag.String("only", "", "only the mutations whose name contains this")
	stops := flag.Int("stops", 300, "how many stops the simulation may play for each; 300 is what make test plays")
	flag.Parse()
	if err := run(context.Background(), *only, *stops); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, stops int) error {
	var missed []string
	for _, m := range mutations {
		if !strings.Contains(m.name, only) {
			continue
		}
		found, err := m.try(ctx, stops)
		switch {
		case err != nil:
			return fmt.Errorf("try %q: %w", m.name, err)
		case found == "":
			missed = append(missed, m.name)
			found = "NOT FOUND"
		}
		fmt.Printf("%-70s %s\n", m.name, found)
	}
	if len(missed) > 0 {
		return fmt.Errorf("the simulation did not find: %s", strings.Join(missed, "; "))
	}
	return nil
}

// try returns what the simulation said of the broken core, or "" when it saw nothing.
func (m mutation) try(ctx context.Context, stops int) (found string, err error) {
	dir, err := os.MkdirTemp("", "mutation")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	overlay, err := m.overlay(dir)
	if err != nil {
		return "", err
	}
	test := filepath.Join(dir, "simulation.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-overlay", overlay, "-o", test, "./agent/internal/simulation")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the broken core: %w\n%s", err, out)
	}
	out, err := exec.CommandContext(ctx, test, "-test.timeout", "0", "-test.run", "TestSimulation$", "-stops", strconv.Itoa(stops)).CombinedOutput()
	var red *exec.ExitError
	if err != nil && !errors.As(err, &red) {
		return "", err
	}
	return firstLine(string(out)), nil
}

func firstLine(out string) string {
	return regexp.MustCompile(`after \d+ stops: .*|panic: .*`).FindString(out)
}

// overlay writes the broken files and says which real ones they stand for.
func (m mutation) overlay(dir string) (string, error) {
	replace := map[string]string{}
	for i, e := range m.edits {
		real, err := filepath.Abs(filepath.Join("agent/internal/drain", e.file))
		if err != nil {
			return "", err
		}
		from := real
		if earlier, ok := replace[real]; ok {
			from = earlier
		}
		text, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		if n := strings.Count(string(text), e.old); n != 1 {
			return "", fmt.Errorf("%s has %d times %q, want once: the code has changed, change scripts/mutations with it", e.file, n, e.old)
		}
		broken := filepath.Join(dir, fmt.Sprintf("%d_%s", i, e.file))
		if err := os.WriteFile(broken, []byte(strings.Replace(string(text), e.old, e.becomes, 1)), 0o600); err != nil {
			return "", err
		}
		replace[real] = broken
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, text, 0o600)
}
