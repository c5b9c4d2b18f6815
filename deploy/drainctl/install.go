package main

import (
	_ "embed"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// installed is what the chart renders with its own values: go test -C scripts/chart -run TestInstall -update writes it.
//
//go:embed install.yaml
var installed string

// What stands in it for a choice.
const (
	installNamespace  = "drain-system"
	installController = "ghcr.io/drain-agent/drain-controller:v0.1.0-dev"
	installAgent      = unpublished
)

func installCommand() *cobra.Command {
	var namespace, controller, agent string
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Print what adds drain-agent to labelled namespaces",
		Long: `Prints the objects of drain-controller, the same that the Helm chart makes with its default values, for teams without Helm. Nothing is
sent to a cluster. Then label a namespace: kubectl label namespace NAME drain-agent.io/inject=enabled.`,
		Example: "  drainctl install | kubectl apply --server-side -f -\n  drainctl install --namespace platform --agent-image registry.example/drain-agent:1.0 > drain-controller.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text := strings.NewReplacer(installNamespace, namespace, installController, controller, installAgent, agent).Replace(installed)
			if controller == installController || agent == installAgent {
				fmt.Fprintf(cmd.ErrOrStderr(), "note: no registry has %s and %s: load them into the nodes, or name yours with --image and --agent-image\n",
					installController, installAgent)
			}
			_, err := io.WriteString(cmd.OutOrStdout(), fmt.Sprintf(
				"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: %s\n  labels: {pod-security.kubernetes.io/enforce: restricted}\n", namespace)+text)
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&namespace, "namespace", installNamespace, "of the controller; keep it for itself")
	fl.StringVar(&controller, "image", released(installController, controllerDigest), "image of the controller")
	fl.StringVar(&agent, "agent-image", agentImage(), "image of the agent that pods get")
	return cmd
}
