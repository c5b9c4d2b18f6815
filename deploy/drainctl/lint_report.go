package main

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"

	"github.com/drain-agent/drain-agent/deploy/internal/lint"
)

// lintReport is what a run of lint found, with what its writers need of the flags.
type lintReport struct {
	lint.Report
	*lintOptions
	kept   int  // pieces of advice that nobody asked for
	unread bool // not everything could be read
}

// reporters returns the table of formats.
func reporters() map[string]func(lintReport, io.Writer) error {
	return map[string]func(lintReport, io.Writer) error{
		"text": lintReport.text, "json": lintReport.json, "sarif": lintReport.sarif, "github": lintReport.github, "junit": lintReport.junit,
	}
}

// where names what a finding is about.
func where(f lint.Finding) string {
	kind, name, _ := strings.Cut(f.Object, " ")
	return fmt.Sprintf("%s %s/%s", kind, cmp.Or(f.Namespace, "default"), cmp.Or(name, "?"))
}

func (r lintReport) text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	last := ""
	for _, f := range r.Findings {
		if group := f.File + ": " + where(f); group != last {
			fmt.Fprintf(t, "%s\n", group)
			last = group
		}
		fmt.Fprintf(t, "  line %d\t%s\t%s\t%s\n", f.Line, f.Severity, f.Rule, f.Message)
		if r.explain {
			fmt.Fprintf(t, "    %s\n    fix: %s\n    %s\n", f.Why, f.Fix, f.Docs)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, r.summary())
	return err
}

// summary says what was judged and what of it is not shown.
func (r lintReport) summary() string {
	hurt, severities := map[string]bool{}, map[lint.Severity]int{}
	for _, f := range r.Findings {
		hurt[f.File+where(f)] = true
		severities[f.Severity]++
	}
	var b strings.Builder
	if len(r.Findings) > 0 {
		fmt.Fprintln(&b)
	}
	fmt.Fprintf(&b, "%s in %s of %s", count(len(r.Findings), "finding"), count(len(hurt), "object"), count(len(r.Workloads), "workload"))
	for severity := lint.Error; severity >= lint.Advice; severity-- {
		if n := severities[severity]; n > 0 {
			fmt.Fprintf(&b, ", %s: %d", severity, n)
		}
	}
	if n := len(r.Silenced); n > 0 {
		fmt.Fprintf(&b, "; silenced with a reason: %d", n)
	}
	if r.kept > 0 {
		fmt.Fprintf(&b, "; advice, see --advice: %d", r.kept)
	}
	if n := len(r.Unjudged); n > 0 {
		fmt.Fprintf(&b, "; not judged: %d", n)
	}
	if r.unread {
		b.WriteString("; not everything could be read, see the errors")
	}
	for _, f := range r.Unjudged {
		fmt.Fprintf(&b, "\nnot judged: %s:%d: %s: %s", f.File, f.Line, where(f), f.Message)
	}
	if len(r.Findings) > 0 && !r.explain {
		fmt.Fprintf(&b, "\nwhat they mean and how to mend them: --explain, or %s", lint.Docs)
	}
	b.WriteString("\n")
	return b.String()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (r lintReport) json(w io.Writer) error {
	return encodeJSON(w, append([]lint.Finding{}, r.Findings...)) // [], not null
}

// github writes workflow commands, which GitHub shows beside the lines of a pull request.
func (r lintReport) github(w io.Writer) error {
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	message := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	for _, f := range r.Findings {
		level := map[lint.Severity]string{lint.Advice: "notice", lint.Warning: "warning", lint.Error: "error"}[f.Severity]
		fmt.Fprintf(w, "::%s file=%s,line=%d,title=%s::%s\n", level, property.Replace(f.File), f.Line, property.Replace("drainctl "+f.Rule+": "+where(f)),
			message.Replace(fmt.Sprintf("%s.\n%s\nfix: %s\n%s", f.Message, f.Why, f.Fix, f.Docs)))
	}
	_, err := io.WriteString(w, strings.TrimPrefix(r.summary(), "\n"))
	return err
}

// sarif writes what code scanning reads. All rules are in it, so that a finding that is gone can be seen to be gone.
func (r lintReport) sarif(w io.Writer) error {
	run := sarif.NewRunWithInformationURI("drainctl lint", "https://github.com/drain-agent/drain-agent")
	levels := map[lint.Severity]string{lint.Advice: "note", lint.Warning: "warning", lint.Error: "error"}
	for _, rule := range lint.Rules() {
		run.AddRule(rule.ID).
			WithName(rule.ID).
			WithShortDescription(sarif.NewMultiformatMessageString().WithText(rule.Why)).
			WithHelp(sarif.NewMultiformatMessageString().WithText(rule.Fix)).
			WithHelpURI(lint.Docs + "#" + rule.ID).
			WithDefaultConfiguration(sarif.NewReportingConfiguration().WithLevel(levels[rule.Severity]))
	}
	for _, f := range r.Findings {
		place := sarif.NewPhysicalLocation().
			WithArtifactLocation(sarif.NewSimpleArtifactLocation((&url.URL{Path: filepath.ToSlash(f.File)}).String())).
			WithRegion(sarif.NewSimpleRegion(f.Line, f.Line))
		run.CreateResultForRule(f.Rule).
			WithLevel(levels[f.Severity]).
			WithMessage(sarif.NewTextMessage(where(f) + ": " + f.Message)).
			AddLocation(sarif.NewLocationWithPhysicalLocation(place))
	}
	report := sarif.NewReport()
	report.AddRun(run)
	return report.PrettyWrite(w)
}

type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string     `xml:"classname,attr"`
	Name    string     `xml:"name,attr"`
	Failure *junitText `xml:"failure"`
	Skipped *junitText `xml:"skipped"`
}

type junitText struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// junit writes a test for every finding, skipped where its severity does not fail, and one that passed for every other workload.
func (r lintReport) junit(w io.Writer) error {
	suite := junitSuite{Name: "drainctl lint"}
	hurt := map[string]bool{}
	for _, f := range r.Findings {
		hurt[f.File+where(f)] = true
		said := &junitText{Message: f.Message, Type: f.Severity.String(), Text: fmt.Sprintf("%s:%d: %s.\n%s\nfix: %s\n%s", f.File, f.Line, f.Message, f.Why, f.Fix, f.Docs)}
		one := junitCase{Class: f.File, Name: where(f) + " " + f.Rule}
		if f.Severity >= r.fails {
			one.Failure = said
			suite.Failures++
		} else {
			said.Type = ""
			one.Skipped = said
			suite.Skipped++
		}
		suite.Cases = append(suite.Cases, one)
	}
	for _, f := range r.Workloads {
		if !hurt[f.File+where(f)] {
			suite.Cases = append(suite.Cases, junitCase{Class: f.File, Name: where(f)})
		}
	}
	suite.Tests = len(suite.Cases)
	text, err := xml.MarshalIndent(suite, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, text)
	return err
}
