// Command plain writes a stream of manifests as sorted lines of JSON: without comments, and without the order of documents and keys.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail(err)
	}
	var lines []string
	for document := range bytes.SplitSeq(append([]byte("\n"), text...), []byte("\n---")) {
		line, err := yaml.YAMLToJSON(append(bytes.Clone(document), '\n')) // the line end before the separator is the text's
		if err != nil {
			fail(err)
		}
		if string(line) != "null" {
			lines = append(lines, string(line))
		}
	}
	slices.Sort(lines)
	fmt.Println(strings.Join(lines, "\n"))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "plain:", err)
	os.Exit(1)
}
