// Command chart renders, packages and judges the chart of drain-controller with Helm's own code.
package main

import (
	"fmt"
	"os"

	"github.com/alecthomas/kong"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"sigs.k8s.io/yaml"
)

type flags struct {
	Chart  string `default:"../../deploy/chart" help:"Folder or archive of the chart."`
	Render struct {
		Release   string            `default:"drain-controller"`
		Namespace string            `default:"drain-system"`
		Values    string            `help:"File with values."`
		Set       map[string]string `help:"Values of the first level, as YAML: policy={enabled: true}." mapsep:"none"`
		APIs      []string          `help:"What the API server has beside its own kinds, as GROUP/VERSION/Kind."`
	} `cmd:"" help:"Print what helm template prints, without the tests."`
	Combinations struct{} `cmd:"" help:"Print each object that any combination of values makes, once."`
	Package      struct {
		Out string `arg:"" help:"Folder for the archive."`
	} `cmd:"" help:"Write the archive and print its path."`
}

func main() {
	var f flags
	ctx := kong.Parse(&f)
	ctx.FatalIfErrorf(run(ctx.Command(), &f))
}

func run(command string, f *flags) error {
	switch command {
	case "combinations":
		text, err := Combinations(f.Chart)
		if err == nil {
			_, err = os.Stdout.WriteString(text)
		}
		return err
	case "render":
		values, err := given(f)
		if err != nil {
			return err
		}
		text, err := Render(f.Chart, f.Render.Release, f.Render.Namespace, values, f.Render.APIs...)
		if err == nil {
			_, err = os.Stdout.WriteString(text)
		}
		return err
	}
	chart, err := loader.Load(f.Chart)
	if err != nil {
		return err
	}
	path, err := chartutil.Save(chart, f.Package.Out)
	if err == nil {
		fmt.Println(path)
	}
	return err
}

func given(f *flags) (map[string]any, error) {
	values := map[string]any{}
	if f.Render.Values != "" {
		text, err := os.ReadFile(f.Render.Values)
		if err == nil {
			err = yaml.Unmarshal(text, &values)
		}
		if err != nil {
			return nil, fmt.Errorf("read values: %w", err)
		}
	}
	for name, text := range f.Render.Set {
		var value any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			return nil, fmt.Errorf("read --set %s: %w", name, err)
		}
		values[name] = value
	}
	return values, nil
}
