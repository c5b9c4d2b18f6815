package envoytest

import (
	"bytes"
	_ "embed"
	"fmt"
	"text/template"
	"time"
)

// Options say which Envoy to start. The zero value is a plain sidecar of any release found, on free ports,
// with inbound traffic going to port AppPort.
type Options struct {
	Version   string   // release as in 1.40.0; empty takes any
	Bootstrap string   // a whole bootstrap (YAML) of the caller's; the fields from here to HideStats are then ignored
	AppPort   int      // port on 127.0.0.1 that the inbound, outbound and TCP listeners send to
	AppName   string   // name of the app's cluster; empty is "app"
	Host      string   // address the listeners bind to; empty is 127.0.0.1
	Inbound   int      // port of the listener "inbound", HTTP/1.1 and HTTP/2 by prior knowledge, WebSocket; 0 takes a free one
	Admin     int      // port of the admin endpoint on 127.0.0.1; 0 takes a free one
	AdminUDS  string   // path of a Unix socket for the admin endpoint instead
	Health    string   // path that a health_check filter of Envoy answers itself on the inbound listener; empty is none
	SameProto bool     // speak to the app what the client spoke (HTTP/2 too); otherwise HTTP/1.1
	Outbound  bool     // adds the listener "outbound"
	TCP       bool     // adds the inbound listener "tcp", a plain TCP proxy
	TCPPort   int      // port on 127.0.0.1 that the listener "tcp" sends to, through a cluster of its own; 0 shares the app's
	TLSPort   int      // adds the inbound listener "tls", which passes TLS through to this port on 127.0.0.1
	Cert, Key string   // PEM: the inbound listener ends TLS with them
	Patience  string   // delayed_close_timeout of the inbound listener, such as "10s": how long its client may take nothing of a last answer
	HideStats bool     // keep only the stats Istio's default keeps of ours: cluster_manager, listener_manager, server
	Args      []string // further arguments of the command line

	HotRestart    bool          // may be followed by another Envoy on the same ports: Args say --base-id and --restart-epoch
	Undirected    bool          // leave out every traffic_direction
	DrainStrategy string        // --drain-strategy: gradual or immediate; empty is Envoy's default, gradual
	DrainTime     time.Duration // --drain-time-s, whole seconds; 0 is Envoy's default, 600 s
}

//go:embed bootstrap.yaml.tmpl
var bootstrapTemplate string

// Render returns the bootstrap configuration that these options ask for, as YAML.
func (o Options) Render() (string, error) {
	if o.Bootstrap != "" {
		return o.Bootstrap, nil
	}
	if o.AppName == "" {
		o.AppName = "app"
	}
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	parsed, err := template.New("bootstrap").Parse(bootstrapTemplate)
	if err != nil {
		return "", fmt.Errorf("parse the bootstrap template: %w", err)
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, o); err != nil {
		return "", fmt.Errorf("render the bootstrap: %w", err)
	}
	return out.String(), nil
}

// commandLine returns the command line for a bootstrap file: one worker, and no hot restart unless asked for, so that many Envoys fit on a machine.
func (o Options) commandLine(bootstrap, adminAddressFile string) []string {
	args := []string{
		"--config-path", bootstrap, "--admin-address-path", adminAddressFile,
		"--concurrency", "1", "--log-level", "info",
	}
	if !o.HotRestart {
		args = append(args, "--disable-hot-restart")
	}
	if o.DrainStrategy != "" {
		args = append(args, "--drain-strategy", o.DrainStrategy)
	}
	if o.DrainTime != 0 {
		args = append(args, "--drain-time-s", fmt.Sprint(int(o.DrainTime.Seconds())))
	}
	return append(args, o.Args...)
}
