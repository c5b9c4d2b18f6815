package envoy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/agent/internal/envoy"
)

const pathsPage = "../../../docs/reference/admin-paths.md"

// pathsInCode are the admin paths that stand in this package, with the method.
func pathsInCode(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	path := regexp.MustCompile(`^/[a-z_]+(/[a-z]+)?(\?.*)?$`)
	found := map[string]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if f, ok := call.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "post" && len(call.Args) == 2 {
					if text, ok := call.Args[1].(*ast.BasicLit); ok {
						posted, _ := strconv.Unquote(text.Value)
						posted, _, _ = strings.Cut(posted, "?")
						found[posted] = "POST"
					}
				}
			}
			if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING {
				if value, err := strconv.Unquote(text.Value); err == nil && path.MatchString(value) {
					value, _, _ = strings.Cut(value, "?")
					if found[value] == "" {
						found[value] = "GET"
					}
				}
			}
			return true
		})
	}
	return found
}

// The page names every admin path that is used, with its method, and no other; so does its allow_paths.
func TestPageOfAdminPaths(t *testing.T) {
	text, err := os.ReadFile(pathsPage)
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| (GET|POST) \\| `([^`]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		said[row[2]] = row[1]
	}
	if want := pathsInCode(t); !maps.Equal(said, want) {
		t.Errorf("%s has %v, the code has %v", pathsPage, said, want)
	}
	if allowed := allowedPaths(t); !slices.Equal(slices.Sorted(maps.Keys(said)), slices.Sorted(slices.Values(allowed))) {
		t.Errorf("allow_paths on %s has %v", pathsPage, allowed)
	}
}

func allowedPaths(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile(pathsPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range regexp.MustCompile(`(?m)^    - prefix: (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		all = append(all, line[1])
	}
	return all
}

// An Envoy that allows what the page says is read and drained as if it allowed everything.
func TestAllowPathsOfThePage(t *testing.T) {
	t.Parallel()
	var allow []obj
	for _, path := range allowedPaths(t) {
		allow = append(allow, obj{"prefix": path})
	}
	app, in := startApp(t), freePort(t)
	admin := obj{"admin": obj{"address": socketAddress(freePort(t), nil), "allow_paths": allow}}
	_, c := startWith(t, []obj{listener("in", in, "INBOUND", httpFilter("in", obj{"cluster": "app"}, nil))}, []obj{cluster("app", app.port, nil)}, admin)
	until(t, c, "all that can be read", func(s envoy.Sample) bool {
		return s.InFlight.Known && s.InFlight.N == 0 && s.Rung == "clusters+http" && len(s.Notes) == 0 && s.Conns.Known && s.Requests.Known
	})
	if d := describe(t, c); !d.Directed || d.Guessed || len(d.InboundPorts) == 0 {
		t.Errorf("%+v", d)
	}
	if ready, err := c.Ready(t.Context()); err != nil || !ready {
		t.Errorf("ready %v, %v", ready, err)
	}
	for name, err := range map[string]error{
		"fail": c.FailHealthCheck(t.Context()), "ok": c.PassHealthCheck(t.Context()), "drain": c.DrainListeners(t.Context(), true), "quit": c.Quit(t.Context()),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
