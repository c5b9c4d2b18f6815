package lint_test

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/deploy/internal/lint"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// expectation is a line of testdata/corpus.txt.
type expectation struct {
	file, object string
	rules        []string
	used         bool
}

func expectations(t *testing.T) (out []*expectation) {
	t.Helper()
	for line := range strings.Lines(read(t, "testdata/corpus.txt")) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] == "#" {
			continue
		}
		for _, rule := range fields[2:] {
			if i := slices.IndexFunc(lint.Rules(), func(r lint.Rule) bool { return r.ID == rule }); i < 0 || lint.Rules()[i].Severity == lint.Advice {
				t.Fatalf("corpus.txt: %s is no rule that is told by default", rule)
			}
		}
		out = append(out, &expectation{file: fields[0], object: fields[1], rules: fields[2:]})
	}
	return out
}

// TestCorpus measures each severity's precision, and what is missed, on manifests of public projects: make corpus CORPUS=DIR.
func TestCorpus(t *testing.T) {
	table := expectations(t)
	dir := os.Getenv("CORPUS")
	if dir == "" {
		t.Skip("CORPUS names no folder: make corpus CORPUS=DIR")
	}
	files, err := filepath.Glob(dir + "/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no manifests (%v)", dir, err)
	}
	right, all, missed, kept := map[lint.Severity]int{}, map[lint.Severity]int{}, 0, map[string][]string{}
	workloads := 0
	for _, file := range files {
		text := read(t, file)
		docs, err := manifest.Parse(filepath.Base(file), []byte(text))
		if err != nil {
			t.Logf("%v", err)
		}
		report := lint.Judge(docs, nil)
		workloads += len(report.Workloads)
		want, told := map[string]map[string]bool{}, map[string]bool{}
		for _, o := range manifest.Objects(docs) {
			object := o.Kind + "/" + o.Name
			want[object] = expected(table, filepath.Base(file), object)
		}
		for _, f := range report.Findings {
			if f.Severity == lint.Advice {
				continue
			}
			object := strings.Replace(f.Object, " ", "/", 1)
			told[object+" "+f.Rule] = true
			all[f.Severity]++
			if want[object][f.Rule] {
				right[f.Severity]++
			} else {
				kept["not expected"] = append(kept["not expected"], fmt.Sprintf("%s %s: %s %s: %s", f.File, object, f.Severity, f.Rule, f.Message))
			}
		}
		for _, object := range slices.Sorted(maps.Keys(want)) {
			for _, rule := range slices.Sorted(maps.Keys(want[object])) {
				if !told[object+" "+rule] {
					missed++
					kept["missed"] = append(kept["missed"], fmt.Sprintf("%s %s: %s", filepath.Base(file), object, rule))
				}
			}
		}
	}
	for _, what := range slices.Sorted(maps.Keys(kept)) {
		t.Logf("%s:\n  %s", what, strings.Join(kept[what], "\n  "))
	}
	for severity, least := range map[lint.Severity]float64{lint.Error: 0.95, lint.Warning: 0.85} {
		precision := float64(right[severity]) / float64(max(all[severity], 1))
		t.Logf("%s: %d of %d right (%.1f %%)", severity, right[severity], all[severity], 100*precision)
		if precision < least {
			t.Errorf("%s: %.1f %% are right, want %.0f %%", severity, 100*precision, 100*least)
		}
	}
	found := right[lint.Error] + right[lint.Warning]
	t.Logf("%d workloads, %.2f findings each; %d of %d expected findings missed", workloads, float64(all[lint.Error]+all[lint.Warning])/float64(workloads), missed, missed+found)
	if float64(found) < 0.85*float64(found+missed) {
		t.Errorf("%d of %d expected findings are missed: a rule that says nothing is never wrong", missed, missed+found)
	}
	for _, e := range table {
		if !e.used {
			t.Errorf("corpus.txt: %s %s matches nothing", e.file, e.object)
		}
	}
}

// expected returns the rules that a workload should be told.
func expected(table []*expectation, file, object string) map[string]bool {
	out := map[string]bool{}
	for _, e := range table {
		inFile, err := path.Match(e.file, file)
		named, err2 := path.Match(e.object, object)
		if err == nil && err2 == nil && inFile && named {
			e.used = true
			for _, rule := range e.rules {
				out[rule] = true
			}
		}
	}
	return out
}
