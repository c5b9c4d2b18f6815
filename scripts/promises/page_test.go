package promises

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the sentences into the page")

const page = "../../docs/reference/promises.md"

// sentences are the comments of the functions in promises.go, in their order.
func sentences(t *testing.T) (all []string, named map[string]bool) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "promises.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	named = map[string]bool{}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if f.Doc.Text() == "" {
			t.Errorf("%s has no sentence", f.Name.Name)
		}
		named[f.Name.Name] = true
		all = append(all, strings.TrimSpace(strings.ReplaceAll(f.Doc.Text(), "\n", " ")))
	}
	return all, named
}

// The page has the sentences of the functions, one for each, in their order. go test ./scripts/promises -update writes them.
func TestPageSaysWhatIsChecked(t *testing.T) {
	all, named := sentences(t)
	var want strings.Builder
	for _, sentence := range all {
		if reason, ok := strings.CutPrefix(sentence, "Reason: "); ok {
			want.WriteString("  - " + reason + "\n")
		} else {
			want.WriteString("- " + sentence + "\n")
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile(`(?s)<!-- promises -->\n(.*?)<!-- /promises -->`).FindStringSubmatch(string(text))
	if block == nil {
		t.Fatalf("%s has no block <!-- promises -->", page)
	}
	if *update {
		written := strings.Replace(string(text), block[0], "<!-- promises -->\n"+want.String()+"<!-- /promises -->", 1)
		if err := os.WriteFile(page, []byte(written), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if block[1] != want.String() {
		t.Errorf("%s does not say what promises.go checks: run go test ./scripts/promises -update", page)
	}
	for _, p := range promises {
		if !named[p.name] {
			t.Errorf("the table calls a promise %q, no function has this name", p.name)
		}
	}
	if len(all) != len(promises)+len(reasons) {
		t.Errorf("%d sentences, %d promises and %d reasons in the tables", len(all), len(promises), len(reasons))
	}
}

// Every promise of the README stands on the page, with the sentences that make it exact.
func TestReadmesPromisesAreOnThePage(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, named := sentences(t)
	_, block, _ := strings.Cut(string(readme), "| Promise | Shown by |\n| --- | --- |\n")
	if block == "" {
		_, block, _ = strings.Cut(string(readme), "| Promise | Shown by |\n|---|---|\n")
	}
	block, _, _ = strings.Cut(block, "\n\n")
	rows := strings.Split(block, "\n")
	if _, limits, ok := strings.Cut(string(readme), "\n## Limits\n\n"); ok {
		limits, _, _ = strings.Cut(limits, "\n\n")
		for row := range strings.SplitSeq(limits, "\n") {
			rows = append(rows, "| "+strings.TrimPrefix(row, "- ")+" |")
		}
	}
	if len(rows) < 12 {
		t.Fatalf("read %d promises and limits from the README", len(rows))
	}
	for _, row := range rows {
		promise := strings.TrimSpace(strings.Split(row, "|")[1])
		at := regexp.MustCompile(`\n\| ` + regexp.QuoteMeta(promise) + ` \| (.*) \|\n`).FindStringSubmatch(string(text))
		if at == nil {
			t.Errorf("%s has no row for the README's %q", page, promise)
			continue
		}
		for _, name := range regexp.MustCompile("`([a-zA-Z]+)`").FindAllStringSubmatch(at[1], -1) {
			if !named[name[1]] {
				t.Errorf("%s: no promise is called %q", page, name[1])
			}
		}
	}
}
