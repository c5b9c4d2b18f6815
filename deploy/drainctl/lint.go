package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/advice"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/verify"
	"github.com/drain-agent/drain-agent/deploy/internal/lint"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// lintConfig is the file with silences that lint reads where it is run.
const lintConfig = ".drainctl.yaml"

// lintOptions are lint's flags.
type lintOptions struct {
	files                  []string
	output, failOn, config string
	advice, explain        bool
	fails                  lint.Severity
	seen                   adviser // where stops are recorded
}

func lintCommand() *cobra.Command {
	var o lintOptions
	cmd := &cobra.Command{
		Use:   "lint -f FILE|DIR|-",
		Short: "Find what will hurt a pod's start or stop",
		Long: `Judges all manifests together: a Service, an autoscaler, a Namespace or a PeerAuthentication with the pods that it concerns.
Errors hurt at the next rollout, warnings under conditions that rollouts meet; advice, practices that are missing, is said with --advice.

A finding that does not matter somewhere is silenced with a reason: by an annotation of the object or its pods,
lint.drain-agent.io/RULE: "why", or in ` + lintConfig + `, where lint is run:

    lint:
      silence:
      - rule: publish-not-ready
        object: Service vault        # a pattern; optional, as file is
        reason: clients must reach a sealed vault

With --from, as drainctl advise has it, recorded stops count too: a grace period that is shorter than the longest stop, or stream, that was
seen is an error (stop-over-grace).

Exit codes: 0 nothing of that severity, 1 flags or manifests that cannot be read, 2 findings.`,
		Example: "  drainctl lint -f k8s/\n  kustomize build overlay | drainctl lint -f - --fail-on=error --explain\n  drainctl lint -f k8s/ --advice -o sarif > drainctl.sarif\n  drainctl lint -f k8s/ --from=http://127.0.0.1:8082",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	filesFlag(cmd, &o.files)
	fl := cmd.Flags()
	fl.StringVarP(&o.output, "output", "o", "text", "text, json, sarif (code scanning), github (annotations of a workflow) or junit")
	fl.StringVar(&o.failOn, "fail-on", "warning", "least severity that fails: advice, warning or error")
	fl.BoolVar(&o.advice, "advice", false, "say advice too")
	fl.BoolVar(&o.explain, "explain", false, "say what happens, how to mend it and where to read more, for every finding")
	fl.StringArrayVar(&o.seen.from, "from", nil, "recorded stops to judge by: address of a controller, or a file or folder of agents' logs (repeatable)")
	fl.StringVar(&o.seen.tokenFile, "token-file", "", "file with the bearer token that the proxy before the controller asks for")
	fl.DurationVar(&o.seen.margin, "margin", 2*time.Second, "the agent's --margin, which the grace period must hold with a recorded stop")
	fl.DurationVar(&o.seen.stages, "stages", 7*time.Second, "the agent's --stop shares, one stage after the other, which it keeps free behind the first hook's answer")
	fl.StringVar(&o.config, "config", lintConfig, "file with silences; the default may be missing")
	return cmd
}

func (o *lintOptions) run(cmd *cobra.Command) error {
	errs := o.seen.unusable()
	var err error
	if o.fails, err = lint.ParseSeverity(o.failOn); err != nil {
		errs = append(errs, fmt.Errorf("--fail-on: %w", err))
	}
	write, known := reporters()[o.output]
	if !known {
		errs = append(errs, fmt.Errorf("--output=%s: write text, json, sarif, github or junit", o.output))
	}
	silences, err := o.silences(cmd.Flags().Changed("config"))
	if errs = append(errs, err); slices.Contains(o.seen.from, "-") && slices.Contains(o.files, "-") {
		errs = append(errs, errors.New("--from=- and -f -: standard input can be one of them"))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	recorded, err := o.recorded(cmd)
	if err != nil {
		return err
	}
	inputs, err := read(o.files, cmd.InOrStdin())
	if err != nil {
		return err
	}
	var docs []*manifest.Document
	errs = nil
	for _, f := range inputs {
		parsed, err := manifest.Parse(f.name, f.text)
		docs = append(docs, parsed...)
		errs = append(errs, err)
	}
	found := lint.JudgeBeside(docs, silences, recorded)
	all := len(found.Findings)
	if !o.advice && o.fails > lint.Advice {
		found.Findings = slices.DeleteFunc(found.Findings, func(f lint.Finding) bool { return f.Severity == lint.Advice })
	}
	report := lintReport{Report: found, lintOptions: o, kept: all - len(found.Findings), unread: errors.Join(errs...) != nil}
	if err := errors.Join(append(errs, write(report, cmd.OutOrStdout()))...); err != nil {
		return err
	}
	if slices.ContainsFunc(found.Findings, func(f lint.Finding) bool { return f.Severity >= o.fails }) {
		return errFindings
	}
	return nil
}

// recorded reads what --from names, and returns what it has of the stops of a workload. One whose manifest tells no namespace is looked for
// in all of them.
func (o *lintOptions) recorded(cmd *cobra.Command) (func(*manifest.Object) lint.Stops, error) {
	ledger, drains, err := o.seen.gather(cmd, "")
	if err != nil {
		return nil, err
	}
	if len(o.seen.from) > 0 && len(ledger)+len(drains) == 0 {
		return nil, errors.New("--from: no stop is recorded there")
	}
	return func(w *manifest.Object) (seen lint.Stops) {
		name, namespace := strings.ToLower(w.Kind)+"/"+w.Name, w.GivenNamespace()
		stops := map[string][]advice.Stop{}
		if _, err := verify.ParseTarget(name, namespace); err == nil {
			(&adviser{namespace: namespace}).recorded(drains, name, stops)
		}
		for whose, of := range ledger {
			if whose == name+" in "+namespace || namespace == "" && strings.HasPrefix(whose, name+" in ") {
				stops[whose] = of
			}
		}
		for _, of := range stops {
			for _, s := range of {
				seen = longer(seen, &s, o.seen.budget())
			}
		}
		return seen
	}, nil
}

// longer is what is known of the stops with one more.
func longer(seen lint.Stops, s *advice.Stop, budget advice.Budget) lint.Stops {
	if s.TotalMS == nil {
		return seen // nobody knows how long it took
	}
	seen.N++
	took, cut := budget.AtLeast(s)
	if took > seen.Longest || took == seen.Longest && cut {
		seen.Longest, seen.CutShort = took, cut
	}
	return seen
}

func (o *lintOptions) silences(asked bool) ([]lint.Silence, error) {
	text, err := os.ReadFile(o.config)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !asked:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("--config: %w", err)
	}
	return lint.ParseConfig(o.config, text)
}
