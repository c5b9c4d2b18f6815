// Command drain-agent coordinates the shutdown of a pod that carries an Envoy: it sees that the pod is asked to stop, keeps every
// container alive until the traffic is gone, lets them go in order and writes down what happened.
package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/server"
	"github.com/drain-agent/drain-agent/agent/secret"
)

// version and revision (the commit) are set by the linker; without that they come from the build information.
var version, revision string //nolint:gochecknoglobals // -ldflags -X needs variables

func main() { os.Exit(command(os.Args[1:], os.Stdout, os.Stderr)) }

const description = `A companion container that sees when a pod is asked to stop, keeps every container alive until the traffic is really gone,
lets them go in order (app first, Envoy after it), and writes down what happened.

Every flag has an environment twin: --grace-period is DRAIN_AGENT_GRACE_PERIOD.

Exit codes of run: 0 clean (always with --exit-with), 1 usage, 2 deadline, 3 finished by an operator, 4 proxy died, 5 watchdog, 6 app died.

Examples:
  drain-agent run --grace-period=30s --app-source='prometheus:http://127.0.0.1:8090/metrics#active_requests'
  drain-agent run --mode=observe --observe-sleep=app=5s
  drain-agent run --envoy-admin=unix:///run/envoy/admin.sock --stop-order=app+worker,otel,proxy --hooks=app,worker,otel,proxy,agent
  drain-agent status -w`

// command runs one command line and returns the exit code.
func command(args []string, stdout, stderr io.Writer) int {
	var line cli
	exit := -1
	parser, err := kong.New(
		&line, kong.Name("drain-agent"), kong.Description(description), kong.DefaultEnvars("DRAIN_AGENT"), kong.UsageOnError(),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exit = code }), kong.Bind(output{stdout, stderr}),
	)
	if err != nil {
		fmt.Fprintf(stderr, "drain-agent: %v\n", err)
		return exitUsage
	}
	ctx, err := parser.Parse(asHealthProbe(args))
	if exit >= 0 { // --help
		return exit
	}
	if err != nil {
		fmt.Fprintf(stderr, "drain-agent: %s\nSee drain-agent --help.\n", secret.HideText(err.Error()))
		return exitUsage
	}
	if ctx.Command() == "run" {
		return run(&line.Run, stdout, stderr)
	}
	if err := ctx.Run(); err != nil {
		fmt.Fprintf(stderr, "drain-agent: %s\n", secret.HideText(err.Error()))
		return exitUsage
	}
	return 0
}

// asHealthProbe lets probe take -addr and -service with one dash, as grpc_health_probe does.
func asHealthProbe(args []string) []string {
	if len(args) == 0 || args[0] != "probe" {
		return args
	}
	args = slices.Clone(args)
	for i, arg := range args {
		if strings.HasPrefix(arg, "-addr") || strings.HasPrefix(arg, "-service") {
			args[i] = "-" + arg
		}
	}
	return args
}

// output is where commands write to.
type output struct{ stdout, stderr io.Writer }

type versionFlag struct{}

// Run prints the version.
func (versionFlag) Run(out output) error {
	b := build()
	_, err := fmt.Fprintf(out.stdout, "drain-agent %s (commit %s, %s)\n", b.version, cmp.Or(b.revision, "unknown"), b.goVersion)
	return err
}

type buildInfo struct{ version, revision, goVersion string }

func build() buildInfo {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return buildInfo{version: version, revision: revision}
	}
	b := buildInfo{cmp.Or(version, info.Main.Version), revision, info.GoVersion}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.revision = cmp.Or(b.revision, s.Value)
		}
	}
	return b
}

func metricsOptions(c *config) server.MetricsOptions {
	b := build()
	opts := server.MetricsOptions{Version: b.version, Revision: b.revision, GoVersion: b.goVersion}
	for _, phase := range drain.Phases() {
		opts.Phases = append(opts.Phases, phase.String())
	}
	for _, outcome := range drain.Outcomes() {
		opts.Outcomes = append(opts.Outcomes, outcome.String())
	}
	for i, container := range c.policy.Containers {
		if c.policy.Hooks.Has(drain.ID(i)) && !slices.Contains(opts.Containers, container.Name) {
			opts.Containers = append(opts.Containers, container.Name)
		}
	}
	return opts
}
