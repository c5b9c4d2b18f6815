package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drain-agent/drain-agent/agent/replay"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/advice"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/rollout"
	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/verify"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// adviser is what the flags of advise say.
type adviser struct {
	from, files       []string
	namespace, output string
	tokenFile         string
	margin, stages    time.Duration
	shares            []float64
	share             float64
	sleeps            []int64
	had               string // as --recorded says
	tries             []string
	apply             bool
}

func adviseCommand() *cobra.Command {
	var a adviser
	cmd := &cobra.Command{
		Use:   "advise [KIND/NAME] --from=CONTROLLER|FILE|-",
		Short: "Say from recorded stops how long the grace period should be",
		Long: `Reads stops that were recorded, from drain-controller's ledger (http://HOST:PORT, its --api) or from agents' logs in any form that
timeline reads, and says for each workload which terminationGracePeriodSeconds holds 99 % and 99.9 % of its stops, how sure that is, and how
many requests a preStop hook "sleep 5", 15 or 30 would have met in flight when it was over, and between which bounds the next such stop's time
and lost requests lie.

A stop that the deadline, an operator or a death ended is right-censored: it would have taken longer, nobody knows how much. Where too many
were, no number is given, only the least that it must be. A grace period is called sure where it holds its share with a confidence of 95 %,
whatever the times are distributed like; with too few stops the longest that was seen is given, and how sure that is. It holds, behind the
first hook's answer, what the agent keeps free for the stages and the margin: a stop that is answered later is cut, however soon it would end.
A stop that --stop or --drain-max ended is counted apart: no grace period lengthens it, and what it asks of one is known.
What a sleep would have met is read off the curve of what was in flight. It is the least: the agent had told clients to go, a sleep does not.
The bounds take the load when the sleep is over for what it was at T0: it lasts until that is done and the containers have ended, and loses
at the most what comes until then.

Stops whose verdicts carry what came (agents that log or report arrivals_curve) are replayed through the agent's own rules under the
settings of --try: between which bounds the next stop's time and lost requests lie, distribution-free, with the confidence that is named;
39 stops give 95 %. --recorded says which settings they were recorded with, where those are not the defaults; stops that do not come out as
they were recorded are left out and counted. A replay that is longer than its recording is right-censored: it is at least so long.
The newest 1,000 stops of a workload are replayed at the most.

Of logs those pods count whose names are those that the workload's kind gives (web-HASH-xxxxx, web-0), by namespace where the logs tell it;
what is left out is named.

--apply raises the grace period of that workload in the manifests of -f; it never shortens one, and writes nothing where the stops may be of
several workloads.`,
		Example: "  kubectl -n drain-system port-forward service/drain-controller 8082 &\n  drainctl advise --from=http://127.0.0.1:8082\n  drainctl advise deploy/web -n shop --from=http://127.0.0.1:8082 -f deployment.yaml --apply\n  drainctl advise --from=logs/ -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.run(cmd, append(args, "")[0]) },
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&a.from, "from", nil, "address of a controller, or a file or folder of agents' logs, or - for standard input (repeatable)")
	fl.StringVarP(&a.namespace, "namespace", "n", "", "namespace of the workload; logs are of it as far as they tell theirs")
	fl.StringVar(&a.tokenFile, "token-file", "", "file with the bearer token that the proxy before the controller asks for")
	fl.StringVarP(&a.output, "output", "o", "table", "table, plot (for the terminal), svg or json")
	fl.DurationVar(&a.margin, "margin", 2*time.Second, "the agent's --margin, which the grace period must hold too")
	fl.DurationVar(&a.stages, "stages", 7*time.Second, "the agent's --stop shares, one stage after the other, which it keeps free behind the first hook's answer")
	fl.Float64SliceVar(&a.shares, "shares", []float64{0.99, 0.999}, "shares of stops that a grace period should hold")
	fl.Int64SliceVar(&a.sleeps, "sleeps", []int64{5, 15, 30}, "seconds of the sleeps to compare with")
	fl.StringVar(&a.had, "recorded", "", "settings of the agents that differed from the defaults when the stops were recorded, as in --try")
	fl.StringArrayVar(&a.tries, "try", []string{"quiet-max=1s", "quiet-max=5s", "accept-loss=0.1", "accept-loss=1", "stop-order=proxy,app"}, "other settings to replay the stops under: flags of the agent, with spaces between them (repeatable)")
	fl.Float64Var(&a.share, "share", 0.99, "the share whose grace period --apply writes")
	fl.BoolVar(&a.apply, "apply", false, "raise terminationGracePeriodSeconds, and the agent's --grace-period, in the files of -f")
	filesFlag(cmd, &a.files)
	return cmd
}

func (a *adviser) run(cmd *cobra.Command, workload string) error {
	if err := a.problems(workload); err != nil {
		return err
	}
	stops, err := a.read(cmd, workload)
	if err != nil {
		return err
	}
	var all []advice.Advice
	recorded, tries, err := a.replays()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(stops)) {
		one := advice.Of(name, stops[name], a.budget(), a.shares, a.sleeps)
		if asked := cmd.Flags().Changed("try") || cmd.Flags().Changed("recorded"); asked || !a.apply || a.output != "table" {
			one.Replays, one.WhatIf = advice.Replay(stops[name], recorded, tries)
		}
		all = append(all, one)
	}
	out := cmd.OutOrStdout()
	if a.apply && slices.Contains(a.files, "-") {
		out = cmd.ErrOrStderr()
	}
	if err := a.write(out, all); err != nil || !a.apply {
		return err
	}
	if len(all) != 1 {
		return fmt.Errorf("--apply: stops of %d workloads were found; name one of them and its namespace", len(all))
	}
	if a.namespace != "" && len(stops[workload]) > 0 { // from logs
		return fmt.Errorf("--apply: these logs do not tell their namespace: nobody knows whether all of them are of %s; leave -n out if they are of one", a.namespace)
	}
	return a.raise(cmd, workload, all[0])
}

func (a *adviser) budget() advice.Budget { return advice.Budget{Margin: a.margin, Stages: a.stages} }

func (a *adviser) problems(workload string) error {
	var errs []error
	if len(a.from) == 0 {
		errs = append(errs, errors.New("where are the stops? Say --from=http://HOST:PORT of a controller, or --from=FILE with agents' logs"))
	}
	if !slices.Contains([]string{"table", "text", "plot", "svg", "json"}, a.output) {
		errs = append(errs, fmt.Errorf("--output=%s: write table, plot, svg or json", a.output))
	}
	_, _, err := a.replays()
	errs = append(append(errs, err), a.unusable()...)
	for _, share := range append(slices.Clone(a.shares), a.share) {
		if !(share > 0 && share < 1) {
			errs = append(errs, fmt.Errorf("a share of %v: write one between 0 and 1, such as 0.99", share))
		}
	}
	for _, seconds := range a.sleeps {
		if seconds < 0 || seconds > 86_400 {
			errs = append(errs, fmt.Errorf("--sleeps=%d: write seconds from 0 to 86400", seconds))
		}
	}
	if workload != "" {
		_, err := verify.ParseTarget(workload, a.namespace)
		errs = append(errs, err)
	}
	if a.apply && (workload == "" || len(a.files) == 0) {
		errs = append(errs, errors.New("--apply: name the workload, and its manifests with -f"))
	}
	if a.apply && !slices.Contains(a.shares, a.share) {
		a.shares = append(a.shares, a.share)
	}
	return errors.Join(errs...)
}

// unusable says what is wrong with the flags that lint has too, as far as the flags tell.
func (a *adviser) unusable() (errs []error) {
	for _, from := range a.from {
		if from == "" {
			errs = append(errs, errors.New("--from=: write http://HOST:PORT of a controller, or a file or folder with agents' logs"))
		} else if _, err := os.Stat(from); err != nil && from != "-" && !address(from) {
			if failed, ok := errors.AsType[*fs.PathError](err); ok {
				err = failed.Err
			}
			errs = append(errs, fmt.Errorf("--from=%s: %w", from, err))
		}
	}
	if a.margin < 0 {
		errs = append(errs, fmt.Errorf("--margin=%v: write a time of 0s or more", a.margin))
	}
	if a.stages < 0 {
		errs = append(errs, fmt.Errorf("--stages=%v: write a time of 0s or more", a.stages))
	}
	return errs
}

// address reports whether a --from is a controller's.
func address(from string) bool {
	return strings.HasPrefix(from, "http://") || strings.HasPrefix(from, "https://")
}

// flagged names the flag before each line of an error.
func flagged(flag string, err error) error {
	return errors.New(flag + ": " + strings.ReplaceAll(err.Error(), "\n", "\n"+flag+": "))
}

// replays are the settings to replay stops under.
func (a *adviser) replays() (recorded advice.Try, tries []advice.Try, err error) {
	var errs []error
	defaults := replay.Defaults()
	defaults.Margin, defaults.Stages = a.margin, a.stages
	base, err := defaults.With(a.had)
	if err != nil {
		errs = append(errs, flagged("--recorded", err))
	}
	for _, text := range a.tries {
		settings, err := base.With(text)
		if err != nil {
			errs = append(errs, flagged("--try", err))
		}
		tries = append(tries, advice.Try{Name: text, Settings: settings, Graces: !settings.GraceNamed})
	}
	return advice.Try{Name: "as recorded", Settings: base, Graces: !base.GraceNamed}, tries, errors.Join(errs...)
}

// read returns the stops by workload.
func (a *adviser) read(cmd *cobra.Command, workload string) (map[string][]advice.Stop, error) {
	stops, drains, err := a.gather(cmd, workload)
	if err != nil {
		return nil, err
	}
	left := ""
	if others := a.recorded(drains, workload, stops); len(others) > 0 {
		left = fmt.Sprintf("; left out: %s%s", others, called(workload))
	}
	if len(stops) == 0 {
		return nil, fmt.Errorf("no stop of %s is recorded there%s", cmp.Or(workload, "any pod"), left)
	}
	if left != "" {
		fmt.Fprintln(cmd.ErrOrStderr(), strings.TrimPrefix(left, "; "))
	}
	return stops, nil
}

// gather reads what --from names: the ledger's stops by workload, and the drains of logs.
func (a *adviser) gather(cmd *cobra.Command, workload string) (stops map[string][]advice.Stop, drains []*rollout.Drain, err error) {
	stops = map[string][]advice.Stop{}
	reader := &rollout.Reader{}
	var logs []string
	for _, from := range a.from {
		if !address(from) {
			files, err := logFiles(from)
			if err != nil {
				return nil, nil, err
			}
			logs = append(logs, files...)
		} else if err := a.ask(cmd.Context(), from, workload, stops); err != nil {
			return nil, nil, err
		}
	}
	if len(logs) > 0 {
		err = (&source{files: logs}).read(cmd.Context(), reader, cmd.InOrStdin())
	}
	return stops, reader.Drains(), err
}

// logFiles are the files of a folder, or the one that is named.
func logFiles(name string) (files []string, err error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return []string{name}, nil //nolint:nilerr // no folder: whoever reads it says what is wrong
	}
	for _, entry := range entries {
		if entry.Type().IsRegular() {
			files = append(files, name+"/"+entry.Name())
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("--from=%s: a folder without files", name)
	}
	return files, nil
}

func (a *adviser) ask(ctx context.Context, address, workload string, stops map[string][]advice.Stop) error {
	query := url.Values{}
	if a.namespace != "" {
		query.Set("namespace", a.namespace)
	}
	if workload != "" {
		target, err := verify.ParseTarget(workload, a.namespace)
		if err != nil {
			return err
		}
		query.Set("kind", target.Kind)
		query.Set("workload", target.Name)
	}
	authorization := ""
	if a.tokenFile != "" {
		text, err := os.ReadFile(a.tokenFile)
		if err != nil {
			return fmt.Errorf("--token-file: %w", err)
		}
		authorization = "Bearer " + strings.TrimSpace(string(text))
	}
	rows, err := advice.Ledger(ctx, address, authorization, query)
	for i := range rows {
		name := strings.ToLower(rows[i].Workload.Kind) + "/" + rows[i].Workload.Name + " in " + rows[i].Namespace
		stops[name] = append(stops[name], rows[i].Stop())
	}
	return err
}

// raise writes the grace period into the manifests of the workload.
func (a *adviser) raise(cmd *cobra.Command, workload string, advised advice.Advice) error {
	at := slices.IndexFunc(advised.Grace, func(g advice.Grace) bool { return g.Share == a.share })
	if at < 0 || advised.Grace[at].Seconds == nil {
		return fmt.Errorf("--apply: no grace period holds %v of these stops as far as anybody can say: too many were cut short", a.share)
	}
	target, err := verify.ParseTarget(workload, a.namespace)
	if err != nil {
		return err
	}
	before, err := read(a.files, cmd.InOrStdin())
	if err != nil {
		return err
	}
	need, found := time.Duration(*advised.Grace[at].Seconds)*time.Second, 0
	after, err := edit(before, func(_ string, o *manifest.Object) (time.Duration, error) {
		w := o.Workload
		if o.Kind != target.Kind || o.Name != target.Name || a.namespace != "" && w.GivenNamespace() != "" && w.GivenNamespace() != a.namespace {
			return 0, nil
		}
		found++
		if now := w.Pod.Spec.TerminationGracePeriodSeconds; now != nil && *now >= int64(need.Seconds()) || now == nil && need <= 30*time.Second {
			return 0, nil
		}
		return need, nil
	})
	if err != nil {
		return err
	}
	if found == 0 {
		return fmt.Errorf("--apply: no %s in these manifests", workload)
	}
	return put(cmd, before, after, true, false)
}
