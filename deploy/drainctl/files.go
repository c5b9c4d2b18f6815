package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// file is one input and what became of it.
type file struct {
	name string // "-" is standard input
	text []byte
}

// read returns the files that -f names: files, directories with everything below them that ends in .yaml, .yml or .json, or "-".
func read(names []string, stdin io.Reader) ([]file, error) {
	if len(names) == 0 {
		return nil, fmt.Errorf("which manifests? Say -f FILE, -f DIR or -f -")
	}
	var files []file
	for _, name := range names {
		if name == "-" {
			text, err := io.ReadAll(stdin)
			if err != nil {
				return nil, fmt.Errorf("read standard input: %w", err)
			}
			files = append(files, file{"-", text})
			continue
		}
		paths, err := below(name)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			files = append(files, file{path, text})
		}
	}
	return files, nil
}

func below(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil || !info.IsDir() {
		return []string{name}, err
	}
	var paths []string
	err = filepath.WalkDir(name, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)) {
			paths = append(paths, path)
		}
		return err
	})
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("%s: no .yaml, .yml or .json files below it", name)
	}
	return paths, err
}

// put writes the results: as a diff, back into the files, or to standard output as one stream of documents.
func put(cmd *cobra.Command, before, after []file, inPlace, asDiff bool) error {
	out := cmd.OutOrStdout()
	for i := range after {
		switch {
		case asDiff:
			if _, err := io.WriteString(out, unified(before[i], after[i])); err != nil {
				return err
			}
		case inPlace && after[i].name != "-":
			if bytes.Equal(before[i].text, after[i].text) {
				continue
			}
			if err := os.WriteFile(after[i].name, after[i].text, 0o644); err != nil { // the mode of a file that is there stays
				return err
			}
		default:
			text := string(after[i].text)
			if i > 0 {
				if prev := after[i-1].text; len(prev) > 0 && prev[len(prev)-1] != '\n' {
					text = "\n" + text
				}
				if !strings.HasPrefix(strings.TrimLeft(text, "\n"), "---") {
					text = "---\n" + text
				}
			}
			if _, err := io.WriteString(out, text); err != nil {
				return err
			}
		}
	}
	return nil
}
