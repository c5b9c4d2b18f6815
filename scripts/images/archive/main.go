// Command archive writes a container image of one layer, from nothing but the files that are named, as a docker archive. The
// same input gives the same bytes. It prints the archive's path.
//
//	archive -name app:e2e -add bin/app:/app -entrypoint /app
//	archive -name envoy:e2e -elf /opt/envoy:/usr/local/bin/envoy -entrypoint /usr/local/bin/envoy
//	archive -name model:e2e -elf /usr/bin/python3.11:/usr/bin/python3.11 -tree /usr/lib/python3.11:/usr/lib/python3.11 -entrypoint …
package main

import (
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/drain-agent/drain-agent/scripts/images/image"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "archive:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	made := image.Image{
		Folders: map[string]int64{"/tmp": 0o1777}, Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin:/"},
		Compression: gzip.BestSpeed, // it goes no further than this machine
	}
	var name string
	var programs []image.File
	flags := flag.NewFlagSet("archive", flag.ExitOnError)
	dir := flags.String("dir", ".", "write the archive into this folder, named after the image")
	flags.StringVar(&name, "name", "", "image `name:tag`")
	flags.StringVar(&made.User, "user", "65532:65532", "numeric `uid:gid` the entrypoint runs as")
	flags.Func("add", "add a `file:path` as it is; may be repeated", func(s string) error { return appendFile(&made.Files, s) })
	flags.Func("elf", "add a dynamically linked `program:path` and the shared libraries it needs; may be repeated",
		func(s string) error { return appendFile(&programs, s) })
	flags.Func("tree", "add the files of a `folder:path`, with the libraries that its own need; may be repeated", func(s string) error {
		files, libraries, err := tree(s)
		made.Files, programs = append(made.Files, files...), append(programs, libraries...)
		return err
	})
	flags.Func("env", "set a variable `NAME=value`; may be repeated", func(s string) error {
		made.Env = append(made.Env, s)
		return nil
	})
	flags.Func("entrypoint", "entrypoint `word`; may be repeated", func(s string) error {
		made.Entrypoint = append(made.Entrypoint, s)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if name == "" || len(made.Entrypoint) == 0 {
		return fmt.Errorf("-name and -entrypoint are required")
	}
	for _, program := range programs {
		libraries, err := sharedLibraries(context.Background(), program.Source)
		if err != nil {
			return err
		}
		made.Files = append(append(made.Files, program), libraries...)
	}
	made.Files = slices.CompactFunc(slices.SortedStableFunc(slices.Values(made.Files), byPath), func(a, b image.File) bool { return a.Path == b.Path })
	archive := filepath.Join(*dir, strings.NewReplacer("/", "_", ":", "_").Replace(name)+".tar")
	built, err := made.Build()
	if err == nil {
		err = image.WriteArchive(archive, name, built)
	}
	if err != nil {
		return err
	}
	fmt.Println(archive)
	return nil
}

func byPath(a, b image.File) int { return strings.Compare(a.Path, b.Path) }

// tree lists the files of a folder, as they are below a path of the image; those that are libraries apart. Links are followed to files,
// not to folders. What Python compiled for itself, its own tests and what others put beside its library are left out.
func tree(pair string) (files, libraries []image.File, err error) {
	source, path, ok := strings.Cut(pair, ":")
	if !ok || !filepath.IsAbs(path) {
		return nil, nil, fmt.Errorf("want folder:/absolute/path, got %q", pair)
	}
	err = filepath.WalkDir(source, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); file != source && slices.Contains([]string{"__pycache__", "test", "site-packages", "dist-packages"}, name) {
				return filepath.SkipDir
			}
			return nil
		}
		is, err := os.Stat(file)
		if err != nil || is.IsDir() { // a link to nothing, or to a folder
			return nil //nolint:nilerr // as said
		}
		below, err := filepath.Rel(source, file)
		one := image.File{Source: file, Path: filepath.Join(path, below)}
		if strings.HasSuffix(file, ".so") {
			libraries = append(libraries, one)
		} else {
			files = append(files, one)
		}
		return err
	})
	return files, libraries, err
}

func appendFile(files *[]image.File, pair string) error {
	source, path, ok := strings.Cut(pair, ":")
	if !ok || !filepath.IsAbs(path) {
		return fmt.Errorf("want source:/absolute/path, got %q", pair)
	}
	*files = append(*files, image.File{Source: source, Path: path})
	return nil
}
