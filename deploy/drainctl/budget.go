package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

func budgetCommand() *cobra.Command {
	var files []string
	var presets, apply bool
	cmd := &cobra.Command{
		Use:   "budget [-f FILE|DIR|-] [-- AGENT-ARGUMENT...]",
		Short: "Draw the worst case of a stop, phase by phase",
		Long: `Draws how a grace period is divided in the worst case, from the arguments of the agents in the manifests or from those behind --,
beside the formula that people calculate with. It computes with the agent's own code. Of pods without the agent it draws what their
preStop hooks cost in every stop and what they leave. --apply writes the grace period where it is too short, into the files of -f;
it never shortens one.`,
		Example: "  drainctl budget\n  drainctl budget -f deployment.yaml\n  drainctl budget -f k8s/ --apply\n  drainctl budget -- --grace-period=65s --preset=alb --stop=app=20s\n  drainctl budget --presets",
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			if presets {
				return drawPresets(out)
			}
			if len(files) == 0 {
				return drawBudget(out, "drain-agent run "+strings.Join(args, " "), args)
			}
			return budgetOf(cmd, files, apply)
		},
	}
	filesFlag(cmd, &files)
	cmd.Flags().BoolVar(&apply, "apply", false, "raise terminationGracePeriodSeconds where it is too short, in the files themselves; from standard input the result goes to standard output and the drawing to standard error")
	cmd.Flags().BoolVar(&presets, "presets", false, "list the presets, with the source of each number")
	return cmd
}

// budgetOf draws the budgets of all pods in the files, and writes the grace periods that are too short.
func budgetOf(cmd *cobra.Command, names []string, apply bool) error {
	before, err := read(names, cmd.InOrStdin())
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if apply && slices.Contains(names, "-") {
		out = cmd.ErrOrStderr()
	}
	drawn := 0
	after, err := edit(before, func(name string, o *manifest.Object) (need time.Duration, err error) {
		if drawn++; drawn > 1 {
			fmt.Fprintln(out)
		}
		need, err = drawWorkload(out, name, o.Workload)
		if !apply {
			need = 0
		}
		return need, err
	})
	if err == nil && drawn == 0 {
		err = errors.New("no pods in these manifests")
	}
	if err != nil || !apply {
		return err
	}
	return put(cmd, before, after, true, false)
}

// edit gives each workload the grace period that need says, none at 0. The error joins all that stands against it.
func edit(before []file, need func(name string, o *manifest.Object) (time.Duration, error)) (after []file, err error) {
	var errs []error
	for _, f := range before {
		docs, err := manifest.Parse(f.name, f.text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var text []byte
		for _, d := range docs {
			var settings []manifest.Setting
			for _, o := range d.Objects {
				if o.Workload == nil {
					continue
				}
				grace, err := need(f.name, o)
				if err == nil && grace > 0 {
					var more []manifest.Setting
					more, err = graceSettings(o.Workload, grace)
					settings = append(settings, more...)
				}
				if err != nil {
					errs = append(errs, d.At(o.Workload.Template, "%s %s: %w", o.Kind, o.Name, err))
				}
			}
			changed, err := d.Set(settings)
			errs = append(errs, err)
			text = append(text, changed...)
		}
		after = append(after, file{f.name, text})
	}
	return after, errors.Join(errs...)
}

// drawWorkload draws one pod. It returns the grace period that is missing, 0 for none.
func drawWorkload(out io.Writer, name string, w *manifest.Workload) (time.Duration, error) {
	title := fmt.Sprintf("%s %s (%s)", w.Kind, w.Called(), name)
	if c := w.Named(inject.AgentContainer); c != nil {
		args := slices.Concat(c.Command, c.Args)
		if err := drawBudget(out, title, args); err != nil {
			return 0, err
		}
		p, err := budget.FromArgs(args)
		return missingGrace(p), err
	}
	return drawBare(out, title, w), nil
}

// share is a part of the grace period.
type share struct {
	name string
	time time.Duration
	what string
}

// shares divides the grace period as the agent does: fixed parts, and in the middle what is left for draining.
func shares(p budget.Policy) []share {
	b := p.Budget()
	left := b.Stop
	take := func(d time.Duration) time.Duration { // each phase gets its own time or what is left
		d = max(min(d, left), 0)
		left -= d
		return d
	}
	confirm, propagation, settle := take(p.ConfirmWindow), take(p.Propagation), take(p.Settle)
	draining := left
	if p.DrainMax > 0 {
		draining = take(p.DrainMax)
	}
	out := []share{
		{"confirm", confirm, "one container, or the pod?"},
		{"propagation", propagation, "new connections are still expected"},
		{"draining", draining, "requests end, clients are told to go: what is left for it"},
		{"settling", settle, "zero must hold"},
	}
	for stage := range p.Stages() {
		var names []string
		var longest time.Duration
		for _, c := range p.Containers {
			if c.Stage == stage {
				names = append(names, c.Name)
				longest = max(longest, c.Stop)
			}
		}
		out = append(out, share{"stop " + strings.Join(names, "+"), time.Duration(float64(longest) * b.Scale), "from SIGTERM to its end (--stop)"})
	}
	return append(out, share{"margin", b.Margin, "never used by the agent"})
}

const barWidth = 60

func drawBudget(w io.Writer, title string, args []string) error {
	p, err := budget.FromArgs(args)
	if err != nil {
		return err
	}
	if p.Grace < time.Second {
		return fmt.Errorf("--grace-period=%v: less than the one second that Kubernetes knows", p.Grace)
	}
	b := p.Budget()
	fmt.Fprintf(w, "%s\ngrace period %s, worst case:\n\n", strings.TrimSpace(title), seconds(p.Grace))
	at := time.Duration(0)
	for _, s := range shares(p) {
		from, to := column(at, p.Grace), column(at+s.time, p.Grace)
		bar := strings.Repeat(" ", from) + strings.Repeat("█", max(to-from, 1))
		fmt.Fprintf(w, "  %-16s %8s %4.0f %% |%s%s|  %s\n", s.name, seconds(s.time), 100*s.time.Seconds()/p.Grace.Seconds(),
			bar, strings.Repeat(" ", max(0, barWidth+1-len([]rune(bar)))), s.what)
		at += s.time
	}
	fmt.Fprintf(w, "\n  first hook answered at the latest after %s, the last after %s; the least that one drain needs is %s\n", seconds(b.Stop), seconds(b.Hard), seconds(b.Floor))
	drawFormula(w, p)
	for _, advice := range advise(p) {
		fmt.Fprintf(w, "  change: %s\n", advice)
	}
	return nil
}

func column(at, whole time.Duration) int {
	return min(int(float64(at)/float64(whole)*barWidth), barWidth)
}

// drawFormula writes the formula of the article with its examples beside ours: a preStop delay is what the agent spends until
// it answers the first hook.
func drawFormula(w io.Writer, p budget.Policy) {
	row := func(name string, delay, app, buffer time.Duration) {
		fmt.Fprintf(w, "  %-18s %7s + %7s + %7s = %s\n", name, seconds(delay), seconds(app), seconds(buffer), seconds(delay+app+buffer))
	}
	const s = time.Second
	fmt.Fprintf(w, "\n  terminationGracePeriodSeconds = preStop delay + application shutdown + buffer\n")
	row("simple service", 10*s, 20*s, 5*s)
	row("complex service", 15*s, 45*s, 5*s)
	row("batch processor", 30*s, 120*s, 10*s)
	b := p.Budget()
	row("this pod, at most", b.Stop, b.Hard-b.Stop, b.Margin)
	fmt.Fprintln(w)
}

// missingGrace is the grace period that a pod with the agent should have where its own is too short; 0 otherwise.
func missingGrace(p budget.Policy) time.Duration {
	b := p.Budget()
	if b.Scale < 1 || b.Stop-p.ConfirmWindow-p.Propagation-p.Settle < p.QuietMax {
		return roundUp(b.Floor + p.QuietMax)
	}
	return 0
}

// advise says what to change.
func advise(p budget.Policy) []string {
	b := p.Budget()
	var out []string
	if b.Scale < 1 {
		out = append(out, fmt.Sprintf("raise the grace period to %s or more: below the floor every stop share shrinks to %.0f %%", seconds(roundUp(b.Floor+p.QuietMax)), 100*b.Scale))
	} else if left := b.Stop - p.ConfirmWindow - p.Propagation - p.Settle; left < p.QuietMax {
		out = append(out, fmt.Sprintf("raise the grace period to %s: draining has %s, less than the %s that kept-alive clients may be waited for (--quiet-max)", seconds(roundUp(b.Floor+p.QuietMax)), seconds(max(left, 0)), seconds(p.QuietMax)))
	}
	if p.Grace > 2*time.Minute {
		out = append(out, "stops beyond 90 to 120 s call for checkpoint-and-resume: save the work, and go on in another pod")
	}
	if len(out) == 0 {
		out = append(out, "nothing")
	}
	return out
}

func roundUp(d time.Duration) time.Duration { return (d + 5*time.Second - 1).Truncate(5 * time.Second) }

func drawPresets(w io.Writer) error {
	for _, p := range budget.Presets() {
		policy := budget.Defaults()
		policy.Propagation, policy.QuietMax = p.Propagation, p.QuietMax
		if _, err := fmt.Fprintf(w, "%-11s new connections for %s, silence of at most %s; grace period from %s\n            %s\n",
			p.Name, seconds(p.Propagation), seconds(p.QuietMax), seconds(roundUp(policy.Budget().Floor+p.QuietMax)), p.Source); err != nil {
			return err
		}
	}
	return nil
}

// seconds writes a time as manifests do, in seconds.
func seconds(d time.Duration) string {
	return strconv.FormatFloat(math.Round(d.Seconds()*1000)/1000, 'f', -1, 64) + " s"
}
