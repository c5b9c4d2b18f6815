package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/verify"
)

// verifyOptions are verify's flags.
type verifyOptions struct {
	verify.Options
	kubeconfig, within, output string
	headers                    []string
}

// errUnfinished ends verify with exitUnfinished; what is still rolling is on standard output.
var errUnfinished = errors.New("verify: unfinished")

func verifyCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify deploy/NAME|statefulset/NAME|daemonset/NAME|rollout/NAME",
		Short: "Replace a workload's pods once and judge how each of them stopped",
		Long: `Restarts the workload once, as kubectl rollout restart does (an annotation of the pod template; spec.restartAt of an Argo Rollout), and
watches every pod that goes: the agent's verdict, hooks that kubelet could not call (FailedPreStopHook), when the pod left the
EndpointSlices and when its first hook was answered. With --url it sends requests of its own meanwhile, at a fixed rate whatever comes
back, half of them on new connections and half on kept ones, none of them twice; every answer whose status is not that of the first is a
failure. Nothing else is changed in the cluster. Ctrl-C ends the watching, not the rollout, and says what is still rolling.

--read-only changes nothing: it judges the objects by the rules of drainctl lint, asks the agents for their status through the API
server, and looks at recent events and at verdicts in the status of pods.

It does not begin where a rollout would not be a test, or would hurt: without the agent, paused, not settled, with one replica and no
surge, or against a disruption budget; the last two are lifted by --anyway.

Exit codes: 0 pass, 1 nothing could be verified (flags, cluster, permissions), 2 something is wrong, 4 interrupted before the end.`,
		Example: "  drainctl verify -n shop deploy/web\n  drainctl verify -n shop deploy/web --url=https://shop.example/healthz --rate=50\n  drainctl verify -n shop statefulset/db --read-only -o json",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&o.Namespace, "namespace", "n", "", "namespace of the workload; that of the kubeconfig's context where it is not said")
	fl.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig; $KUBECONFIG or ~/.kube/config where it is not said")
	fl.StringVar(&o.within, "context", "", "context of the kubeconfig")
	fl.BoolVar(&o.ReadOnly, "read-only", false, "look, and replace nothing")
	fl.BoolVar(&o.Anyway, "anyway", false, "also where nobody serves for a while, or a PodDisruptionBudget forbids it")
	fl.DurationVar(&o.Timeout, "timeout", 15*time.Minute, "how long the rollout may take")
	fl.StringVar(&o.Request.URL, "url", "", "send requests here meanwhile (GET)")
	fl.Float64Var(&o.Request.Rate, "rate", 20, "requests per second, with --url")
	fl.DurationVar(&o.Request.Timeout, "request-timeout", 30*time.Second, "time limit of one request, with --url")
	fl.StringArrayVarP(&o.headers, "header", "H", nil, "header of the requests, as \"NAME: VALUE\" (repeatable)")
	fl.StringVarP(&o.output, "output", "o", "text", "text or json")
	return cmd
}

func (o *verifyOptions) run(cmd *cobra.Command, target string) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	cluster, err := o.connect(target)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	o.Say = func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
	}
	report, err := cluster.Run(ctx, o.Options)
	if err != nil {
		return err
	}
	if o.output == "json" {
		err = encodeJSON(cmd.OutOrStdout(), report)
	} else {
		err = report.Text(cmd.OutOrStdout())
	}
	switch {
	case err != nil:
		return err
	case report.Result == verify.Fail:
		return errFindings
	case report.Result == verify.Unfinished:
		return errUnfinished
	}
	return nil
}

// connect reads flags and kubeconfig; everything that is wrong with them is said at once.
func (o *verifyOptions) connect(target string) (*verify.Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.within})
	var bad []error
	if o.output != "text" && o.output != "json" {
		bad = append(bad, fmt.Errorf("--output=%s: write text or json", o.output))
	}
	if o.Timeout <= 0 {
		bad = append(bad, fmt.Errorf("--timeout=%v: write more than 0", o.Timeout))
	}
	o.Request.Header = http.Header{}
	for _, h := range o.headers {
		name, value, found := strings.Cut(h, ":")
		if !found {
			bad = append(bad, errors.New("--header: write \"NAME: VALUE\"")) // its value may be a secret
		}
		o.Request.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	config, err := loaded.ClientConfig()
	if err != nil {
		bad = append(bad, fmt.Errorf("no cluster to ask: %w", err))
	}
	if o.Namespace == "" {
		if o.Namespace, _, err = loaded.Namespace(); err != nil {
			o.Namespace = "default" // said above
		}
	}
	if o.Target, err = verify.ParseTarget(target, o.Namespace); err != nil {
		bad = append(bad, err)
	}
	if len(bad) > 0 {
		return nil, errors.Join(bad...)
	}
	return verify.Connect(config)
}
