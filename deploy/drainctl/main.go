// Command drainctl adds drain-agent to manifests, explains mistakes in them, draws the budget of a grace period, draws drains that are
// over, and verifies a workload by a rollout. Installed as kubectl-drainctl it is a kubectl plugin.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/drain-agent/drain-agent/agent/secret"
)

// Exit codes.
const (
	exitOK         = 0
	exitUsage      = 1 // flags, files or manifests that cannot be read, a cluster that cannot be asked
	exitFindings   = 2 // lint or verify found something that fails
	exitPassed     = 3 // inject is done but for what it cannot edit
	exitUnfinished = 4 // verify was interrupted
)

// errFindings ends lint and verify with exitFindings; what was found is on standard output.
var errFindings = errors.New("lint: findings")

// errPassed ends inject with exitPassed; what was passed over is on standard error.
var errPassed = errors.New("inject: passed over")

func main() {
	klog.SetLogger(logr.Discard()) // what a watch complains of is in verify's report
	os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return runWithin(context.Background(), args, stdin, stdout, stderr)
}

func runWithin(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := command(filepath.Base(args[0]))
	root.SetArgs(args[1:])
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errFindings):
		return exitFindings
	case errors.Is(err, errPassed):
		return exitPassed
	case errors.Is(err, errUnfinished):
		return exitUnfinished
	}
	fmt.Fprintf(stderr, "drainctl: %s\n", secret.HideText(err.Error()))
	return exitUsage
}

func command(called string) *cobra.Command {
	root := &cobra.Command{
		Use:           "drainctl",
		Short:         "Add drain-agent to pods, check their lifecycle, draw what happened",
		Long:          "drainctl adds drain-agent to manifests, explains mistakes in them before they hurt, draws the budget of a grace period,\ndraws drains that are over, and verifies a workload of a cluster by a rollout. Installed as kubectl-drainctl it is a kubectl plugin: kubectl drainctl lint -f pod.yaml.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	if plugin, is := strings.CutPrefix(called, "kubectl-"); is {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl " + strings.ReplaceAll(plugin, "_", "-")}
	}
	root.AddCommand(injectCommand(), uninjectCommand(), installCommand(), lintCommand(), budgetCommand(), timelineCommand(), adviseCommand(), topCommand(), verifyCommand(), versionCommand())
	return root
}
