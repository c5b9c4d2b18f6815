package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/lint"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/manifest"
)

func lintCommand() *cobra.Command {
	var files []string
	var output, failOn string
	cmd := &cobra.Command{
		Use:   "lint -f FILE|DIR|-",
		Short: "Find what will hurt a pod's start or stop",
		Long: `Judges all manifests together: a Service, a PodDisruptionBudget or a PeerAuthentication with the pods that it selects.
Every finding says what happens, how to mend it and where it is explained.

Exit codes: 0 nothing of that severity, 1 flags or manifests that cannot be read, 2 findings.`,
		Example: "  drainctl lint -f k8s/\n  kustomize build overlay | drainctl lint -f - --fail-on=error\n  drainctl lint -f k8s/ -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fails, err := lint.ParseSeverity(failOn)
			if err != nil {
				return fmt.Errorf("--fail-on: %w", err)
			}
			inputs, err := read(files, cmd.InOrStdin())
			if err != nil {
				return err
			}
			var docs []*manifest.Document
			var errs []error
			for _, f := range inputs {
				parsed, err := manifest.Parse(f.name, f.text)
				docs = append(docs, parsed...)
				errs = append(errs, err)
			}
			found := lint.Run(docs)
			if err := errors.Join(append(errs, report(cmd.OutOrStdout(), output, found))...); err != nil {
				return err
			}
			if slices.ContainsFunc(found, func(f lint.Finding) bool { return f.Severity >= fails }) {
				return errFindings
			}
			return nil
		},
	}
	filesFlag(cmd, &files)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().StringVar(&failOn, "fail-on", "warning", "least severity that fails: advice, warning or error")
	return cmd
}

func report(w io.Writer, output string, found []lint.Finding) error {
	switch output {
	case "json":
		return encodeJSON(w, append([]lint.Finding{}, found...)) // [], not null
	case "text":
		for _, f := range found {
			fmt.Fprintf(w, "%s:%d: %s %s: %s\n", f.File, f.Line, f.Severity, f.Rule, f.Object)
			fmt.Fprintf(w, "  %s.\n  %s\n  fix: %s\n  %s\n", f.Message, f.Why, f.Fix, f.Docs)
		}
		return nil
	}
	return fmt.Errorf("--output=%s: write text or json", output)
}
