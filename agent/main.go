// Command drain-agent coordinates the shutdown of a pod that carries an Envoy: it sees that the pod is asked to stop, keeps every
// container alive until the traffic is gone, lets them go in order and writes down what happened.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/server"
)

// version is set by the linker; without that it comes from the build information.
var version string //nolint:gochecknoglobals // -ldflags -X needs a variable

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
		fmt.Fprintf(stderr, "drain-agent: %v\nSee drain-agent --help.\n", err)
		return exitUsage
	}
	if ctx.Command() == "run" {
		return run(&line.Run, stdout, stderr)
	}
	if err := ctx.Run(); err != nil {
		fmt.Fprintf(stderr, "drain-agent: %v\n", err)
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
	v, goVersion := build()
	_, err := fmt.Fprintf(out.stdout, "drain-agent %s (%s)\n", v, goVersion)
	return err
}

func build() (v, goVersion string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, ""
	}
	v = info.Main.Version
	if version != "" {
		v = version
	}
	return v, info.GoVersion
}

func metricsOptions(c *config) server.MetricsOptions {
	v, goVersion := build()
	opts := server.MetricsOptions{Version: v, GoVersion: goVersion}
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
