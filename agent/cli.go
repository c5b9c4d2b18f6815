package main

import (
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/drain-agent/drain-agent/agent/budget"
)

// cli is the whole command line. Every flag has an environment twin: --grace-period is DRAIN_AGENT_GRACE_PERIOD.
type cli struct {
	Run     runFlags    `cmd:"" default:"withargs" help:"Coordinate the pod's shutdown. This is what the container runs."`
	Hook    hookCmd     `cmd:"" help:"Call a stop hook over the control socket and block like GET /prestop/NAME. For exec hooks."`
	Install installCmd  `cmd:"" help:"Copy this binary into a directory, for exec hooks of images that lack it."`
	Wait    waitCmd     `cmd:"" help:"Block until Envoy answers that it is ready."`
	Probe   probeCmd    `cmd:"" help:"Ask an HTTP URL or a gRPC health service. Exit code 0: healthy."`
	Drain   drainCmd    `cmd:"" help:"Take the pod out of service until undrain: readiness and Envoy's health check fail."`
	Undrain undrainCmd  `cmd:"" help:"Put the pod back into service."`
	Finish  finishCmd   `cmd:"" help:"End a drain under way now: answer the hooks in order."`
	Source  sourceCmd   `cmd:"" name:"probe-source" help:"Show what an app source reads, once or watched: try it before it is deployed."`
	Status  statusCmd   `cmd:"" help:"Show the phase, the time left, what is in flight and what is waited for."`
	Version versionFlag `cmd:"" help:"Print the version."`
}

// runFlags are the flags of drain-agent run. Values are read leniently, so that every problem can be told at once; see config.go.
type runFlags struct {
	Listen    string `default:":9909" help:"Address of hooks, probes, metrics and status. Kubelet calls the pod IP, so not loopback."`
	Control   string `default:"/run/drain-agent/control.sock" help:"Unix socket for operators and exec hooks; its directory also keeps the journal. Empty: none."`
	DrainFile string `name:"drain-file" help:"While this file exists the pod is in maintenance, as after the verb drain."`
	Mode      string `default:"drain" help:"drain, or observe: change nothing, answer hooks after --observe-sleep, log what drain would have done."`

	GracePeriod value[time.Duration] `default:"30s" help:"terminationGracePeriodSeconds as the pod has it. Kubernetes does not tell it to containers."`
	Margin      value[time.Duration] `default:"2s" help:"All hooks are answered this long before the grace period ends."`
	Hooks       string               `default:"app,proxy,agent" help:"Containers that have a stop hook here; agent is this one."`
	StopOrder   string               `default:"app,proxy" help:"Who is let go after whom: comma is then, plus is together (app+worker,otel,proxy)."`
	OutlivesMe  string               `name:"outlives-me" help:"Containers that end after the agent, such as proxy under Istio, a native sidecar that stands before it. Of --workers: kubelet itself says that it has ended, by its SIGTERM to the agent, a native sidecar."`
	Workers     string               `help:"Containers that pull their work (queues, cron loops) and that only SIGTERM tells to stop: their hooks are answered as soon as the pod stop is sure, later stages wait for their end."`
	Stop        list                 `sep:"none" help:"NAME=DURATION: a container's share of the grace period from SIGTERM to its end. Default app=5s, others 2s." placeholder:"app=5s"`
	ObserveNap  list                 `name:"observe-sleep" sep:"none" help:"NAME=DURATION: how long the container's hook sleeps today (--mode=observe)." placeholder:"app=5s"`

	Proxy      string `default:"auto" help:"Who owns the Envoy: auto, envoy, istio or none. With none there is no Envoy: clients are counted at the ports of --watch."`
	EnvoyAdmin string `default:"http://127.0.0.1:15000" help:"Envoy's admin: http://HOST:PORT or unix:///PATH. Empty: timer mode, Envoy is not read."`
	AppSource  list   `sep:"none" help:"[NAME=]SOURCE of the requests the container NAME (app) holds: prometheus:URL#SELECTOR (name{label=\"value\"}, also != =~ !~; one - SELECTOR or - NUMBER), json:URL#/pointer, text:URL#regexp, preset:SERVER@URL, file:PATH, socket:PORT, none." placeholder:"prometheus:http://127.0.0.1:8090/metrics#active_requests"`
	AppAuth    list   `name:"app-auth-file" sep:"none" help:"[NAME=]PATH: credentials for the pages of NAME (app): a file with a token, with headers, or with PEM certificates and keys, or the directory of a mounted Secret. --app-drain-url uses those of app. Repeatable." placeholder:"app=/run/secrets/metrics/token"`
	Watch      list   `sep:"none" help:"NAME=port:N or NAME=file:PATH: how to see that a container has ended; of its ports, name the one that it closes last, or several: it has ended when all say so. Default for the app: the port that Envoy sends inbound traffic to. Without an Envoy name the serving port first: clients are counted at the first port of each container." placeholder:"app=port:8090"`
	AppDrain   string `name:"app-drain-url" help:"POSTed when draining begins, so that the app can close streams and WebSockets politely."`
	ExitWith   string `help:"Containers, with commas between them, with whose end, all of them, the agent quits Envoy and exits 0 (Jobs)."`

	Preset      string               `default:"kube-proxy" help:"Who sends new connections to the pod: kube-proxy, istio, alb, nlb or gclb. Sets the five values below it that are not given."`
	Propagation value[time.Duration] `placeholder:"DURATION" help:"How long after the pod's deletion new connections must be expected. Preset kube-proxy: 1.5s."`
	AnnounceMax value[time.Duration] `placeholder:"DURATION" help:"Longest wait for new connections to cease before draining begins. Preset kube-proxy: 2s."`
	QuietMin    value[time.Duration] `placeholder:"DURATION" help:"Silence of new connections that counts. Preset kube-proxy: 500ms."`
	QuietMax    value[time.Duration] `placeholder:"DURATION" help:"Longest wait for silence while draining. Preset kube-proxy: 15s."`
	Exposure    value[time.Duration] `placeholder:"DURATION" help:"How long a client can still hit us after the first process was told to stop. Default 200ms; 5ms where the proxy stops first."`
	Background  value[float64]       `default:"0" help:"Requests per second through Envoy that are probes and scrapes."`
	AcceptLoss  value[float64]       `default:"0.02" help:"Stopping score that is low enough: requests that stopping now would hit."`
	DrainMax    value[time.Duration] `default:"0s" help:"Longest draining; 0: what the grace period leaves."`
	Settle      value[time.Duration] `default:"200ms" help:"How long zero must hold."`

	ConfirmWindow value[time.Duration] `default:"1s" help:"A second container's hook within it makes a pod stop; alone it is a container restart."`
	RestartMax    value[time.Duration] `default:"2s" help:"Longest hold of a container that is restarted alone; a pod deletion waits behind it."`
	Poll          value[time.Duration] `default:"25ms" help:"Shortest period between readings; stretched so that who answers spends at most 5 % on us. A slow page of the app is read a few times in each stop all the same."`
	FailReadiness string               `default:"never" help:"When readiness fails on a pod stop: never, draining or trigger (for balancers that probe us themselves)."`
	QuitProxy     toggle               `default:"false" help:"Send Envoy /quitquitquit at the end."`
	TokenFile     string               `help:"File with the token that hook calls carry in the header Drain-Agent-Token; allows what cannot be undone."`

	Report     string `help:"URL that each verdict is POSTed to, beside the log: drain-controller's ledger. No hook waits for it, the agent's end half a second at most." placeholder:"https://drain-controller.drain-system.svc/report"`
	ReportAuth string `name:"report-auth-file" help:"Credentials for --report, as --app-auth-file has them." placeholder:"PATH"`

	LogFormat      string `default:"json" help:"json or text."`
	TerminationLog string `default:"/dev/termination-log" help:"Where the verdict is left for the pod's status. Empty: nowhere."`
}

// value is a flag that remembers what was wrong with it instead of stopping the parser at the first problem.
type value[T any] struct {
	v    T
	set  bool   // given by a person or by a default
	bad  bool   // what was given could not be read
	text string // what was given
}

// Decode reads the flag's text; it never fails.
func (v *value[T]) Decode(ctx *kong.DecodeContext) error {
	var text string
	if err := ctx.Scan.PopValueInto("value", &text); err != nil {
		return err
	}
	parsed, err := budget.Parse[T](text)
	v.text, v.bad = text, err != nil
	if err == nil {
		v.v, v.set = parsed, true
	}
	return nil
}

// list is a flag that may be repeated; a text of several lines, as its environment twin may have, is several values.
type list []string

// Decode adds the text's lines.
func (l *list) Decode(ctx *kong.DecodeContext) error {
	var text string
	if err := ctx.Scan.PopValueInto("value", &text); err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			*l = append(*l, line)
		}
	}
	return nil
}

// toggle is a value that may stand without a text: --quit-proxy.
type toggle struct{ value[bool] }

// Decode takes a flag without a value as true.
func (t *toggle) Decode(ctx *kong.DecodeContext) error {
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		t.v, t.set, t.bad = true, true, false
		return nil
	}
	return t.value.Decode(ctx)
}

// IsBool tells the parser that the next word belongs to somebody else.
func (t *toggle) IsBool() bool { return true }
