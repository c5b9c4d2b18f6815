// Command drain-controller adds drain-agent to pods as they are created: a webhook that the API server asks about every pod whose
// namespace, or which itself, has the label drain-agent.io/inject: enabled. It also keeps what the agents of stopped pods said.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/drain-agent/drain-agent/agent/secret"
	"github.com/drain-agent/drain-agent/deploy/controller/internal/ledger"
	"github.com/drain-agent/drain-agent/deploy/internal/inject"
)

// Set by the linker.
var version, revision = "dev", ""

// config is what the flags say.
type config struct {
	image        string
	allowImage   bool
	namespace    string // our own
	service      string // that leads to us
	certDir      string
	secret       string // "": somebody else makes the certificates
	webhooks     string // name of both configurations
	listen       int
	host         string
	health       string
	metrics      string
	deny         bool
	configMaps   bool
	meshConfig   string
	settings     map[string]string
	verbose      bool
	kubeQPS      float32
	printVersion bool
	check        string
	checkName    string
	authority    string
	api          string
	report       string
	ledger       ledger.Config
}

func main() {
	_ = readAsNeeded() // without it, only more memory is taken
	spareMemory(os.Getenv("MEMORY_LIMIT"))
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr))
}

// spareMemory makes Go collect garbage in time for the container's limit, of which half is left to what Go does not count: the program
// and a database in memory. Below it garbage is collected twice as often as Go does by itself: there is little to do for it.
func spareMemory(limit string) {
	if bytes, err := strconv.ParseInt(limit, 10, 64); err == nil && bytes > 0 {
		debug.SetMemoryLimit(bytes / 2)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// command runs one command line and returns the exit code.
func command(args []string, stdout, stderr io.Writer) int {
	if err := run(args, stdout); err != nil {
		fmt.Fprintf(stderr, "drain-controller: %s\n", secret.HideText(err.Error()))
		return 1
	}
	return 0
}

func run(args []string, out io.Writer) error {
	c, err := parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if c.printVersion {
		_, err = fmt.Fprintln(out, version, revision)
		return err
	}
	if c.check != "" {
		return check(context.Background(), c.check, c.checkName, c.authority)
	}
	level := slog.LevelInfo
	if c.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level}))
	bridge := logr.FromSlogHandler(log.Handler())
	ctrl.SetLogger(bridge)
	klog.SetLogger(bridge)
	options, problems := inject.Options{Image: c.image, Shape: "auto", Proxy: "auto", RefuseImage: true}.With(prefixed(c.settings))
	if len(problems) > 0 {
		return fmt.Errorf("read --default: %s", problems)
	}
	kube, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	kube.QPS = c.kubeQPS
	log.Info("starting", "version", version, "agent_image", c.image, "certificates", cmp.Or(c.secret, "given in "+c.certDir))
	return serve(ctrl.SetupSignalHandler(), kube, c, options, log)
}

func parse(args []string) (config, error) {
	var c config
	fl := pflag.NewFlagSet("drain-controller", pflag.ContinueOnError)
	fl.SortFlags = false
	fl.StringVar(&c.image, "agent-image", "", "image of the agent that pods get (required)")
	fl.BoolVar(&c.allowImage, "allow-agent-image", false, "let the annotation "+inject.SettingPrefix+"image of a pod or namespace name another one")
	fl.StringToStringVar(&c.settings, "default", nil, "NAME=VALUE as the annotation "+inject.SettingPrefix+"NAME would say it, for all pods that do not (repeatable)")
	fl.StringVar(&c.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of this program")
	fl.StringVar(&c.service, "service", "drain-controller", "Service that leads to this program")
	fl.StringVar(&c.webhooks, "webhooks", "drain-controller", "name of the two webhook configurations, whose authority is kept up to date")
	fl.StringVar(&c.secret, "certificate-secret", "drain-controller-certificate", "Secret, mounted at --certificate-dir, in which certificates are made and renewed; empty: somebody else does that")
	fl.StringVar(&c.certDir, "certificate-dir", "/etc/drain-controller/certificate", "folder with tls.crt and tls.key")
	fl.StringVar(&c.host, "host", "", "address to listen on; all without it")
	fl.IntVar(&c.listen, "port", 9443, "port of the webhooks")
	fl.StringVar(&c.health, "health", ":8081", "address of /readyz and /healthz")
	fl.StringVar(&c.metrics, "metrics", ":8080", "address of /metrics; 0 for none")
	fl.BoolVar(&c.deny, "lint-deny", false, "refuse objects whose pods break a rule that lint calls an error, instead of warning")
	fl.BoolVar(&c.configMaps, "read-config-maps", true, "read the ConfigMaps that a pod mounts, for Envoy's configuration")
	fl.StringVar(&c.meshConfig, "istio-namespace", "istio-system", "namespace of Istio's ConfigMap istio; empty: not read")
	fl.Float32Var(&c.kubeQPS, "kube-qps", -1, "limit of our own requests per second to the API server; -1 for none, as it has its own")
	fl.StringVar(&c.ledger.Store, "store", "memory", "where verdicts of stopped pods are kept: memory, sqlite:PATH, postgres://…, file:PATH with one of them in it, or none")
	fl.DurationVar(&c.ledger.Limits.Age, "keep", 30*24*time.Hour, "how long they are kept")
	fl.IntVar(&c.ledger.Limits.Rows, "keep-stops", 10_000, "how many of them are kept, the newest")
	fl.IntVar(&c.ledger.Limits.Workloads, "workloads", 500, "how many workloads have metrics of their own; the rest are counted as one")
	fl.DurationVar(&c.ledger.UnknownAfter, "unknown-after", 30*time.Second, "how long after a pod is gone a verdict may still come; then its outcome is unknown")
	fl.StringVar(&c.api, "api", "", "address on which GET /api/v1/drains and /api/v1/rollouts answer everybody; empty: nowhere")
	fl.StringVar(&c.report, "report", "", "URL of "+reportPath+" of this program, to which agents that are added to pods report their verdicts themselves; empty: they do not")
	fl.StringVar(&c.ledger.ReportCA, "report-client-ca", "", "file with the authorities of certificates with which agents may report instead of tokens; each names its pod as spiffe://ANYTHING/ns/NAMESPACE/pod/NAME/UID")
	fl.BoolVarP(&c.verbose, "verbose", "v", false, "log more")
	fl.BoolVar(&c.printVersion, "version", false, "print the version and end")
	fl.StringVar(&c.check, "check", "", "instead of serving: whether a webhook answers at this URL with a certificate of --check-authority")
	fl.StringVar(&c.checkName, "check-name", "", "name in that certificate, where the URL has an address")
	fl.StringVar(&c.authority, "check-authority", "", "file with that authority")
	if err := fl.Parse(args); err != nil || c.printVersion || c.check != "" {
		return c, err
	}
	var missing []error
	if c.image == "" {
		missing = append(missing, errors.New("--agent-image is missing: name the image that pods get"))
	}
	if c.namespace == "" {
		missing = append(missing, errors.New("--namespace is missing, and so is POD_NAMESPACE: name the namespace of this program"))
	}
	if fl.NArg() > 0 {
		missing = append(missing, fmt.Errorf("%q: no such argument; all are flags", fl.Args()))
	}
	return c, errors.Join(append(missing, ledgerProblems(c)...)...)
}

func prefixed(settings map[string]string) map[string]string {
	out := map[string]string{}
	for name, value := range settings {
		out[inject.SettingPrefix+name] = value
	}
	return out
}
