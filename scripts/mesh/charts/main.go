// Command charts prints one of Istio's charts, which its module carries, rendered by Helm with the values on standard input.
//
//	charts gateway payments <values.yaml
package main

import (
	"fmt"
	"io"
	"os"

	"istio.io/istio/operator/pkg/helm"
	"istio.io/istio/operator/pkg/values"
	"k8s.io/apimachinery/pkg/version"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "charts:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 2 {
		return fmt.Errorf("want a chart (base, istio-control/istio-discovery, gateway) and a namespace, got %q", args)
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	given, err := values.MapFromYaml(text)
	if err != nil {
		return fmt.Errorf("read values from standard input: %w", err)
	}
	release := "istiod"
	if args[0] == "gateway" {
		release = "gateway"
	}
	kubernetes := &version.Info{Major: "1", Minor: "34", GitVersion: "v1.34.4"}
	manifests, _, err := helm.Render(release, args[1], args[0], values.Map{"spec": values.Map{"values": given}}, kubernetes)
	if err != nil {
		return fmt.Errorf("render chart %s: %w", args[0], err)
	}
	for _, manifest := range manifests {
		fmt.Fprintf(out, "---\n%s\n", manifest.Content)
	}
	return nil
}
