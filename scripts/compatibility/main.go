// Command compatibility reads what tests printed (go test -v, scripts/e2e/run) from standard input, keeps in results.tsv on which
// releases they ran and what came of it, and writes docs/reference/compatibility.md from that. Nothing in either is written by hand.
package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

const (
	resultsFile = "scripts/compatibility/results.tsv"
	pageFile    = "docs/reference/compatibility.md"
)

func main() {
	kong.Parse(&struct{}{}, kong.Name("compatibility"), kong.Description("Reads what tests printed (go test -v, make e2e) from standard input, and writes "+resultsFile+" and "+pageFile+" again: "+
		"what ran on which releases. Example: make e2e 2>&1 | tee LOG; go run ./scripts/compatibility <LOG"))
	if err := record(context.Background(), ".", os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "compatibility:", err)
		os.Exit(1)
	}
}

// record replaces the results of every combination of releases that the log has tests of, and writes the page again.
func record(ctx context.Context, root string, log io.Reader) error {
	commit, err := exec.CommandContext(ctx, "git", "-C", root, "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return fmt.Errorf("ask git for the commit: %w", err)
	}
	found, err := readLog(log, strings.TrimSpace(string(commit)))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(root, resultsFile))
	if err != nil {
		return err
	}
	rows, err := merge(string(text), found)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, resultsFile), []byte(results(rows)), 0o644); err != nil { //nolint:gosec // part of the tree
		return err
	}
	return os.WriteFile(filepath.Join(root, pageFile), []byte(page(rows)), 0o644) //nolint:gosec // part of the tree
}

// merge puts rows in the place of those of the same releases.
func merge(before string, found []result) ([]result, error) {
	rows, err := readResults(before)
	if err != nil {
		return nil, err
	}
	for _, row := range found {
		rows = slices.DeleteFunc(rows, func(old result) bool { return old.releases == row.releases })
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b result) int {
		return cmp.Or(cmp.Compare(a.owner, b.owner), cmp.Compare(a.kubernetes, b.kubernetes), -cmp.Compare(a.envoy, b.envoy))
	})
	return rows, nil
}

// releases are what a test ran on. Kubernetes and whose Envoys they were, as in "Istio 1.28.0", are "-" where they were simulated
// or not there.
type releases struct{ kubernetes, envoy, owner string }

type result struct {
	releases
	passed, failed int
	commit         string
}

const header = "kubernetes\tenvoy\towner\tpassed\tfailed\tcommit\n"

func results(rows []result) string {
	var text strings.Builder
	text.WriteString(header)
	for _, r := range rows {
		fmt.Fprintf(&text, "%s\t%s\t%s\t%d\t%d\t%s\n", r.kubernetes, r.envoy, r.owner, r.passed, r.failed, r.commit)
	}
	return text.String()
}

func readResults(text string) (rows []result, err error) {
	for line := range strings.Lines(strings.TrimPrefix(text, header)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != strings.Count(header, "\t")+1 {
			return nil, fmt.Errorf("%s: %q: %d fields, want those of %q", resultsFile, line, len(fields), header)
		}
		r := result{releases: releases{fields[0], fields[1], fields[2]}, commit: fields[5]}
		if _, err := fmt.Sscan(fields[3]+" "+fields[4], &r.passed, &r.failed); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", resultsFile, line, err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func page(rows []result) string {
	var text strings.Builder
	text.WriteString(`# What it was run on

Each row is a run of tests with real Envoys; ` + "`make compatibility`" + ` writes this page and its numbers. What is not here was not run.
Where no Kubernetes is named, processes and pods of ` + "`scripts/podsim`" + ` ran on one machine.

| Kubernetes | Envoy | Whose Envoys | Tests passed | failed | Commit | Again |
|---|---|---|---|---|---|---|
`)
	for _, r := range rows {
		fmt.Fprintf(&text, "| %s | %s | %s | %d | %d | %s | `%s` |\n",
			or(r.kubernetes, "none"), r.envoy, or(r.owner, "ours"), r.passed, r.failed, r.commit, r.again())
	}
	return text.String()
}

// again is the command that repeats a row.
func (r result) again() string {
	const ofMatrix = 10 // tests at the most; make e2e has many more
	switch {
	case strings.HasPrefix(r.owner, "Envoy Gateway"), strings.HasPrefix(r.owner, "Contour"):
		return "CLUSTER_KUBERNETES=" + r.kubernetes + " make e2e-gateways"
	case strings.HasPrefix(r.owner, "Istio "):
		return "MESH_ISTIO=" + strings.TrimPrefix(r.owner, "Istio ") + " CLUSTER_KUBERNETES=" + r.kubernetes + " scripts/e2e/run --brief-mesh"
	case r.kubernetes != "-" && r.passed+r.failed > ofMatrix:
		return "CLUSTER_KUBERNETES=" + r.kubernetes + " make e2e"
	case r.kubernetes != "-":
		return "scripts/compatibility/matrix " + r.kubernetes + " " + r.envoy
	}
	return "make compatibility"
}

func or(value, instead string) string {
	if value == "-" {
		return instead
	}
	return value
}

// lines reads without a limit to the length of a line.
func lines(from io.Reader, each func(line string)) error {
	for r := bufio.NewReader(from); ; {
		line, err := r.ReadString('\n')
		each(strings.TrimRight(line, "\n"))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
