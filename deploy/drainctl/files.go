package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	udiff "github.com/aymanbagabas/go-udiff"
	"github.com/spf13/cobra"
)

// file is one input and what became of it.
type file struct {
	name string // "-" is standard input
	text []byte
}

func filesFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVarP(files, "filename", "f", nil, "manifest, directory of manifests, or - for standard input (repeatable)")
}

// read returns the files that -f names: files, directories with everything below them that ends in .yaml, .yml or .json, or "-".
func read(names []string, stdin io.Reader) (files []file, err error) {
	if len(names) == 0 {
		return nil, errors.New("which manifests? Say -f FILE, -f DIR or -f -")
	}
	for _, name := range names {
		before := len(files)
		if name == "-" {
			text, err := io.ReadAll(stdin)
			if err != nil {
				return nil, fmt.Errorf("read standard input: %w", err)
			}
			files = append(files, file{"-", text})
			continue
		}
		root := name
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			root += "/" // also where the name is a link
		}
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || path != root && !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)) {
				return err
			}
			text, err := os.ReadFile(path)
			files = append(files, file{path, text})
			return err
		})
		if err == nil && len(files) == before {
			err = fmt.Errorf("%s: no .yaml, .yml or .json files below it", name)
		}
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// put writes the results: as a diff, back into the files, or to standard output as one stream of documents.
func put(cmd *cobra.Command, before, after []file, inPlace, asDiff bool) error {
	out := cmd.OutOrStdout()
	for i, f := range after {
		text := string(f.text)
		switch {
		case asDiff:
			text = udiff.Unified("a/"+f.name, "b/"+f.name, string(before[i].text), text)
		case inPlace && f.name != "-":
			if bytes.Equal(before[i].text, f.text) {
				continue
			}
			if err := replace(f.name, f.text); err != nil {
				return err
			}
			continue
		case i > 0:
			if !strings.HasPrefix(strings.TrimLeft(text, "\n"), "---") {
				text = "---\n" + text
			}
			if !bytes.HasSuffix(after[i-1].text, []byte("\n")) {
				text = "\n" + text
			}
		}
		if _, err := io.WriteString(out, text); err != nil {
			return err
		}
	}
	return nil
}

// replace writes a file anew, whole or not at all: a full disk costs nobody their manifest. Its mode and links to it stay.
func replace(name string, text []byte) error {
	path, err := filepath.EvalSymlinks(name)
	if err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	fresh, err := os.CreateTemp(filepath.Dir(path), ".drainctl-*")
	if err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	_, err = fresh.Write(text)
	err = errors.Join(err, fresh.Chmod(info.Mode().Perm()), fresh.Sync(), fresh.Close())
	if err == nil {
		err = os.Rename(fresh.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("replace %s: %w", name, errors.Join(err, os.Remove(fresh.Name())))
	}
	return nil
}
