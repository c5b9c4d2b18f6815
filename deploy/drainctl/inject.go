package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/manifest"
)

func injectCommand() *cobra.Command {
	var files []string
	var inPlace, asDiff, asPatch, quiet bool
	var o inject.Options
	cmd := &cobra.Command{
		Use:   "inject -f FILE|DIR|-",
		Short: "Add drain-agent to every workload in the manifests",
		Long: `Adds the agent's container, hooks, probe wiring, volumes and grace period to every Deployment, StatefulSet, DaemonSet, ReplicaSet,
Job, CronJob, Pod and List in the manifests, and says on standard error what it found and why it chose what it chose.

Text is inserted between your lines, between marks; comments, order and formatting stay. A second run replaces what the first one
put there, so the same command changes nothing; uninject takes everything back. With any error nothing is written.`,
		Example: "  drainctl inject -f deployment.yaml --diff\n  drainctl inject -f deployment.yaml -w && kubectl apply -f deployment.yaml\n  drainctl inject -f k8s/ -w --app-source='prometheus:http://127.0.0.1:8090/metrics#active_requests'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			before, err := read(files, cmd.InOrStdin())
			if err != nil {
				return err
			}
			after, reports, errs := make([]file, len(before)), make([][]inject.Report, len(before)), make([]error, len(before))
			var running sync.WaitGroup
			for i, f := range before {
				if inPlace && filepath.Ext(f.name) == ".json" {
					return fmt.Errorf("%s: JSON has no comments, and what is inserted stands between marks: leave --write out and keep the output as YAML", f.name)
				}
				running.Go(func() {
					after[i].name = f.name
					after[i].text, reports[i], errs[i] = inject.File(f.name, f.text, o)
				})
			}
			running.Wait()
			var patches []string
			for i, all := range reports {
				for _, r := range all {
					if asPatch && r.Plan != nil {
						patches = append(patches, r.Plan.Patch(r.Workload))
					}
				}
				if !quiet {
					tell(cmd, before[i].name, all)
				}
			}
			if err := errors.Join(errs...); err != nil {
				return err
			}
			if asPatch {
				_, err := io.WriteString(cmd.OutOrStdout(), strings.Join(patches, "---\n"))
				return err
			}
			return put(cmd, before, after, inPlace, asDiff)
		},
	}
	fl := cmd.Flags()
	fileFlags(cmd, &files, &inPlace, &asDiff)
	fl.BoolVar(&asPatch, "patch", false, "print strategic merge patches for kustomize instead, one for each workload")
	cmd.MarkFlagsMutuallyExclusive("patch", "write", "diff")
	fl.BoolVarP(&quiet, "quiet", "q", false, "say nothing on standard error")
	fl.StringVar(&o.Image, "image", "drain-agent:dev", "image of the agent")
	fl.StringVar(&o.Shape, "shape", "auto", "auto, native (Kubernetes 1.29 or later; what auto chooses) or classic (a regular container)")
	fl.StringVar(&o.Proxy, "proxy", "auto", "the Envoy: auto, a container's name, istio, consul or kuma (added at admission), or none (timer mode)")
	fl.StringVar(&o.App, "app", "", "the container that serves; default: the first that is not the proxy")
	fl.StringVar(&o.EnvoyAdmin, "envoy-admin", "", "Envoy's admin, http://HOST:PORT or unix:///PATH; default: what is found in arguments and ConfigMaps")
	fl.StringArrayVar(&o.AppSource, "app-source", nil, "how the agent counts the app's requests (repeatable), as in drain-agent run --app-source")
	fl.StringVar(&o.Preset, "preset", "", "who sends new connections: kube-proxy, istio, alb, nlb or gclb; see drainctl budget")
	fl.DurationVar(&o.Grace, "grace-period", 0, "terminationGracePeriodSeconds; default: the pod's, or more where a drain would not fit")
	fl.StringArrayVar(&o.ReplaceHooks, "replace-hook", nil, "container whose own preStop hook gives way to the agent's (repeatable)")
	fl.StringArrayVar(&o.AgentArgs, "agent-arg", nil, "further argument of drain-agent run (repeatable), such as --agent-arg=--stop=app=20s")
	fl.StringVar(&o.Token, "token", "", "token that hooks carry; default: a new one per workload, kept by later runs on the same file; - for none. Give one where the output goes through a pipe: a new one with each run rolls the pods")
	return cmd
}

func fileFlags(cmd *cobra.Command, files *[]string, inPlace, asDiff *bool) {
	filesFlag(cmd, files)
	cmd.Flags().BoolVarP(inPlace, "write", "w", false, "write the files in place instead of to standard output")
	cmd.Flags().BoolVar(asDiff, "diff", false, "show a unified diff instead")
	cmd.MarkFlagsMutuallyExclusive("write", "diff")
}

// tell says what was found and why, one workload after another.
func tell(cmd *cobra.Command, name string, reports []inject.Report) {
	err := cmd.ErrOrStderr()
	for _, r := range reports {
		fmt.Fprintf(err, "%s: %s %s: ", name, r.Workload.Kind, r.Workload.Name)
		if r.Plan == nil {
			fmt.Fprintf(err, "left alone: %s\n", r.Left)
			continue
		}
		proxy := "no Envoy: timer mode"
		if p := r.Plan.Proxy; p.Found() {
			proxy = fmt.Sprintf("Envoy %s %s (%s)", p.Container, p.Where, p.Why)
		}
		fmt.Fprintf(err, "%s; %s; grace period %v\n", proxy, r.Plan.Shape(), r.Plan.Grace)
		for _, note := range r.Plan.Notes {
			fmt.Fprintf(err, "  note: %s\n", note)
		}
	}
}

func uninjectCommand() *cobra.Command {
	var files []string
	var inPlace, asDiff bool
	cmd := &cobra.Command{
		Use:   "uninject -f FILE|DIR|-",
		Short: "Take back what inject did, byte for byte",
		Long:  "Takes out what stands between the marks of inject and puts the replaced lines back. It needs the marks: text that went through\nkustomize, helm or the API server has lost them.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			before, err := read(files, cmd.InOrStdin())
			if err != nil {
				return err
			}
			var after []file
			for _, f := range before {
				text, found, err := manifest.Restore(f.text)
				if err != nil {
					return fmt.Errorf("%s: %w", f.name, err)
				}
				if !found {
					fmt.Fprintf(cmd.ErrOrStderr(), "%s: no marks of drainctl inject: left as it is\n", f.name)
				}
				after = append(after, file{f.name, text})
			}
			return put(cmd, before, after, inPlace, asDiff)
		},
	}
	fileFlags(cmd, &files, &inPlace, &asDiff)
	return cmd
}
