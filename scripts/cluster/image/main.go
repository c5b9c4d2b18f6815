// Command image writes a FROM-scratch container image as a docker archive, without docker and without a registry: one
// layer, one config, one manifest. The same input gives the same bytes. It prints the archive's path.
//
//	image -name app:e2e -add bin/app:/app -entrypoint /app
//	image -name envoy:e2e -elf /opt/envoy:/usr/local/bin/envoy -entrypoint /usr/local/bin/envoy
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var image Image
	var programs []File
	flags := flag.NewFlagSet("image", flag.ExitOnError)
	dir := flags.String("dir", ".", "write the archive into this folder, named after the image")
	flags.StringVar(&image.Name, "name", "", "image `name:tag`")
	flags.StringVar(&image.User, "user", "65532:65532", "numeric `uid:gid` the entrypoint runs as")
	flags.Func("add", "add a `file:path` as it is; may be repeated", func(s string) error { return appendFile(&image.Files, s) })
	flags.Func("elf", "add a dynamically linked `program:path` and the shared libraries it needs; may be repeated",
		func(s string) error { return appendFile(&programs, s) })
	flags.Func("entrypoint", "entrypoint `word`; may be repeated", func(s string) error {
		image.Entrypoint = append(image.Entrypoint, s)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if image.Name == "" || len(image.Entrypoint) == 0 {
		return fmt.Errorf("-name and -entrypoint are required")
	}
	for _, program := range programs {
		libraries, err := sharedLibraries(context.Background(), program.Source)
		if err != nil {
			return err
		}
		image.Files = append(append(image.Files, program), libraries...)
	}
	archive := filepath.Join(*dir, strings.NewReplacer("/", "_", ":", "_").Replace(image.Name)+".tar")
	if err := image.Write(archive); err != nil {
		return err
	}
	fmt.Println(archive)
	return nil
}

func appendFile(files *[]File, pair string) error {
	source, path, ok := strings.Cut(pair, ":")
	if !ok || !filepath.IsAbs(path) {
		return fmt.Errorf("want source:/absolute/path, got %q", pair)
	}
	*files = append(*files, File{Source: source, Path: path})
	return nil
}
