// Command drainctl adds drain-agent to manifests, explains mistakes in them, draws the budget of a grace period, and draws
// drains that are over. Installed as kubectl-drainctl it is a kubectl plugin.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitOK       = 0
	exitUsage    = 1 // flags, files or manifests that cannot be read
	exitFindings = 2 // lint found something that fails
)

// errFindings ends lint with exitFindings; what was found is on standard output.
var errFindings = errors.New("lint: findings")

func main() { os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := command(filepath.Base(args[0]))
	root.SetArgs(args[1:])
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(context.Background())
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errFindings):
		return exitFindings
	}
	fmt.Fprintf(stderr, "drainctl: %v\n", err)
	return exitUsage
}

func command(called string) *cobra.Command {
	root := &cobra.Command{
		Use:           "drainctl",
		Short:         "Add drain-agent to pods, check their lifecycle, draw what happened",
		Long:          "drainctl adds drain-agent to manifests, explains mistakes in them before they hurt, draws the budget of a grace period,\nand draws drains that are over. Installed as kubectl-drainctl it is a kubectl plugin: kubectl drainctl lint -f pod.yaml.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	if plugin, is := strings.CutPrefix(called, "kubectl-"); is {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl " + plugin}
	}
	root.AddCommand(injectCommand(), uninjectCommand(), lintCommand(), budgetCommand(), timelineCommand())
	return root
}
