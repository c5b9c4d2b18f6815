package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// injectFlags are the flags of inject that choose what is done with the result.
type injectFlags struct {
	files                           []string
	inPlace, asDiff, asPatch, quiet bool
	roles                           []string
}

func injectCommand() *cobra.Command {
	var f injectFlags
	var o inject.Options
	cmd := &cobra.Command{
		Use:   "inject -f FILE|DIR|-",
		Short: "Add drain-agent to every workload that has an Envoy",
		Long: `Adds the agent's container, hooks, probe wiring, volumes and grace period to every pod with an Envoy in the manifests, and says on
standard error what it found and why it chose what it chose. Kinds: ` + strings.Join(manifest.Kinds(), ", ") + `, and what Lists
and Templates of OpenShift hold.

All files are read together: Services with their load balancers, Namespaces, ConfigMaps with Envoy's configuration and mesh
configuration tell about the pods beside them. A container is the proxy, serves, works (fetches its work by itself), is depended on or
helps; where nobody can tell, inject asks: --role=NAME=ROLE, or the pod's annotation ` + roles.Annotation + `: NAME=ROLE,… answers.

Pods without an Envoy are left alone, with a line; so is what --skip names, what --selector does not select, and what carries the
annotation or label ` + roles.InjectAnnotation + `: "false" (also on its Namespace).

The annotations ` + inject.SettingPrefix + `FLAG of a pod or its Namespace say what flags say, as drain-controller reads them; a flag outranks them.

Text is inserted between your lines, between marks; comments, order and formatting stay. A second run replaces what the first one
put there, so the same command changes nothing; uninject takes everything back. With any error nothing is written, unless --keep-going.

Exit codes: 0 done, 1 errors, 3 done, but something that makes pods was passed over because drainctl cannot edit its kind.`,
		Example: "  drainctl inject -f deployment.yaml --diff\n  drainctl inject -f k8s/ -w --skip='job/*' --keep-going\n  drainctl inject -f k8s/ -w --app-source='prometheus:http://127.0.0.1:8090/metrics#active_requests'\n  helm install web ./chart --post-renderer drainctl --post-renderer-args inject --post-renderer-args=-f --post-renderer-args=- --post-renderer-args=--token=TOKEN",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runInject(cmd, &f, o) },
	}
	fl := cmd.Flags()
	fileFlags(cmd, &f.files, &f.inPlace, &f.asDiff)
	fl.BoolVar(&f.asPatch, "patch", false, "print patches for kustomize instead, one for each workload: strategic merge, or JSON 6902 for kinds whose schema kustomize does not know")
	cmd.MarkFlagsMutuallyExclusive("patch", "write", "diff")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "say nothing on standard error")
	fl.StringVar(&o.Image, "image", agentImage(), "image of the agent")
	fl.StringVar(&o.Shape, "shape", "auto", "auto, native (Kubernetes 1.29 or later; what auto chooses) or classic (a regular container; so is istio-proxy then)")
	fl.DurationVar(&o.Longest, "longest-request", 0, "what the longest request or stream takes: the grace period grows to hold it")
	fl.StringVar(&o.Proxy, "proxy", "auto", "the Envoy: auto, a container's name, istio, consul or kuma (added at admission), or none (there is none: clients are counted at the pod's own ports)")
	fl.StringVar(&o.App, "app", "", "the container whose requests --app-source counts; default: the one that serves, by Envoy's configuration where several do")
	fl.StringArrayVar(&f.roles, "role", nil, "NAME=proxy, serving, worker, dependency or helper: what a container is for (repeatable); outranks what was found")
	fl.StringVar(&o.Choice.Selector, "selector", "", "only workloads with these labels, or whose pods have them, as kubectl takes it: app=web,tier!=db")
	fl.StringArrayVar(&o.Choice.Skip, "skip", nil, "leave alone NAME, KIND/NAME or NAMESPACE/KIND/NAME; * stands for any text (repeatable)")
	fl.BoolVar(&o.KeepGoing, "keep-going", false, "leave documents with errors as they are and go on with the others; the exit code is 1 all the same")
	fl.StringVar(&o.EnvoyAdmin, "envoy-admin", "", "Envoy's admin, http://HOST:PORT or unix:///PATH; default: what is found in arguments and ConfigMaps")
	fl.StringArrayVar(&o.AppSource, "app-source", nil, "how the agent counts the app's requests (repeatable), as in drain-agent run --app-source")
	fl.Int32Var(&o.Port, "port", 0, "the agent's port; default: 9909, or the next that is free in the pod")
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

// runInject reads all files, then injects each with all objects beside it.
func runInject(cmd *cobra.Command, f *injectFlags, o inject.Options) error {
	before, err := read(f.files, cmd.InOrStdin())
	if err != nil {
		return err
	}
	said, err := parseRoles(f.roles)
	if err := errors.Join(err, o.Choice.Validate()); err != nil {
		return err
	}
	if err := valid(cmd); err != nil {
		return err
	}
	o.Roles, o.Said = said, saidSettings(cmd, o.AgentArgs)
	o.Beside = beside(before)
	after, reports, errs := make([]file, len(before)), make([][]inject.Report, len(before)), make([]error, len(before))
	var running sync.WaitGroup
	for i, one := range before {
		if f.inPlace && filepath.Ext(one.name) == ".json" {
			return fmt.Errorf("%s: JSON has no comments, and what is inserted stands between marks: leave --write out and keep the output as YAML", one.name)
		}
		running.Go(func() {
			after[i].name = one.name
			after[i].text, reports[i], errs[i] = inject.File(one.name, one.text, o)
			if errs[i] != nil && after[i].text == nil {
				after[i].text = one.text // as it was, with --keep-going
			}
		})
	}
	running.Wait()
	passed := false
	var patches []string
	for i, all := range reports {
		for _, r := range all {
			passed = passed || r.Passed
			if f.asPatch && r.Plan != nil && r.Object.Name == "" {
				errs[i] = errors.Join(errs[i], fmt.Errorf("%s:%d: %s %s has a generateName alone, by which kustomize cannot find it: leave --patch out", before[i].name, r.Line, r.Object.Kind, r.Object.Called()))
			} else if f.asPatch && r.Plan != nil {
				patches = append(patches, r.Plan.Patch(r.Object.Workload))
			}
		}
		if !f.quiet {
			tell(cmd, before[i].name, all)
		}
	}
	failed := errors.Join(errs...)
	if failed != nil && !o.KeepGoing {
		return failed
	}
	if o.Image == unpublished && !f.quiet && slices.ContainsFunc(reports, anyInjected) {
		fmt.Fprintf(cmd.ErrOrStderr(), "note: no registry has %s: load it into the nodes (`make images` builds it), or name yours with --image\n", unpublished)
	}
	if f.asPatch {
		_, err = io.WriteString(cmd.OutOrStdout(), strings.Join(patches, "---\n"))
	} else {
		err = put(cmd, before, after, f.inPlace, f.asDiff)
	}
	if passed && failed == nil && err == nil {
		return errPassed
	}
	return errors.Join(failed, err)
}

// valid reads the flags that annotations may give too as those are read.
func valid(cmd *cobra.Command) error {
	var errs []error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if slices.Contains([]string{"shape", "preset", "port"}, f.Name) {
			_, problems := inject.Options{}.With(map[string]string{inject.SettingPrefix + f.Name: f.Value.String()})
			for _, problem := range problems {
				errs = append(errs, errors.New("--"+strings.TrimPrefix(problem, inject.SettingPrefix)))
			}
		}
		if f.Name == "agent-arg" && strings.Contains(f.Value.String(), "--listen=") {
			errs = append(errs, errors.New("--agent-arg=--listen: say --port, which tells hooks and probes too"))
		}
	})
	return errors.Join(errs...)
}

// saidSettings names the settings that flags of inject give, so that annotations do not change them.
func saidSettings(cmd *cobra.Command, agentArgs []string) (said []string) {
	cmd.Flags().Visit(func(f *pflag.Flag) { said = append(said, f.Name) })
	for _, arg := range agentArgs {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		said = append(said, name)
	}
	return said
}

// unpublished is the name that `make images` gives the agent's image; nobody can pull it.
const unpublished = "ghcr.io/drain-agent/drain-agent:v0.1.0-dev"

func anyInjected(all []inject.Report) bool {
	return slices.ContainsFunc(all, func(r inject.Report) bool { return r.Plan != nil })
}

// beside returns the objects of all files as they were before an earlier run. What cannot be read is said when its file's turn comes.
func beside(files []file) (all []*manifest.Object) {
	for _, f := range files {
		text, _, err := manifest.Restore(f.text)
		if err != nil {
			continue
		}
		docs, _ := manifest.Parse(f.name, text)
		all = append(all, manifest.Objects(docs)...)
	}
	return all
}

func parseRoles(pairs []string) (map[string]roles.Role, error) {
	said := map[string]roles.Role{}
	var errs []error
	for _, pair := range pairs {
		name, text, _ := strings.Cut(pair, "=")
		role, err := roles.ParseRole(text)
		if err != nil || name == "" {
			errs = append(errs, fmt.Errorf("--role=%s: write NAME=proxy, serving, worker, dependency or helper", pair))
		}
		said[name] = role
	}
	return said, errors.Join(errs...)
}

// tell says what was found and why, one workload after another.
func tell(cmd *cobra.Command, name string, reports []inject.Report) {
	err := cmd.ErrOrStderr()
	for _, r := range reports {
		what := fmt.Sprintf("%s:%d", name, r.Line)
		if r.Object != nil {
			what = fmt.Sprintf("%s: %s %s", name, r.Object.Kind, r.Object.Called())
		}
		if r.Plan == nil {
			fmt.Fprintf(err, "%s: left alone: %s\n", what, r.Left)
			continue
		}
		proxy := "no Envoy: " + r.Plan.Clients()
		if p := r.Plan.Proxy; p.Found() {
			proxy = fmt.Sprintf("Envoy %s %s (%s)", p.Container, p.Where, p.Why)
			if p.Container == "" {
				proxy = fmt.Sprintf("Envoy %s (%s)", p.Where, p.Why)
			}
		}
		fmt.Fprintf(err, "%s: %s; %s; grace period %v\n", what, proxy, r.Plan.Shape(), r.Plan.Grace)
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
