package main

import (
	"fmt"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
	"github.com/drain-agent/drain-agent/agent/internal/traffic"
	"github.com/drain-agent/drain-agent/agent/secret"
)

const (
	agentName = "agent"
	proxyName = "proxy"
)

// config is what the flags mean.
type config struct {
	flags   *runFlags
	policy  drain.Policy
	sources []*traffic.Source
	auth    map[string]*traffic.Auth // by container
	report  *traffic.Auth            // of --report; nil: none
	watches []*traffic.Watch
	admin   *envoy.Client   // nil in timer mode
	beyond  map[string]bool // containers that are more than one agent can tell apart
	doubts  []string        // what a person should mend; the agent runs all the same
}

// problems collects everything that makes a configuration unusable.
type problems []string

func (p *problems) add(flag, value, why, remedy string) {
	*p = append(*p, fmt.Sprintf("--%s=%s: %s; %s", flag, secret.Hide(value), secret.HideText(why), remedy))
}

// onlyURL keeps back what should be a URL and has not even a port: it may be the part of one that holds a secret.
func onlyURL(value string) string {
	if strings.Contains(value, ":") {
		return value
	}
	return "…"
}

func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return fmt.Errorf("configuration has %d problem(s):\n  %s", len(p), strings.Join(p, "\n  "))
}

// unreadable reports the flags whose text could not be read, by their field names.
func (f *runFlags) unreadable(bad *problems) {
	fields := reflect.ValueOf(f).Elem()
	for i := range fields.NumField() {
		name := kebab(fields.Type().Field(i).Name)
		switch v := fields.Field(i).Interface().(type) {
		case value[time.Duration]:
			if v.bad {
				bad.add(name, v.text, "not a duration", "write 1500ms, 30s or 2m")
			}
		case value[float64]:
			if v.bad {
				bad.add(name, v.text, "not a number from 0", "write 0.02")
			}
		case toggle:
			if v.bad {
				bad.add(name, v.text, "neither true nor false", "write true or false")
			}
		}
	}
}

func kebab(field string) string {
	var b strings.Builder
	for i, r := range field {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('-')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// load turns flags into a configuration, or says everything that is wrong with them. What is only doubtful stands in doubts.
func load(f *runFlags) (*config, error) {
	var bad problems
	c := &config{flags: f}
	f.unreadable(&bad)
	if _, port, err := net.SplitHostPort(f.Listen); err != nil {
		bad.add("listen", f.Listen, "not HOST:PORT", "write :9909")
	} else if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		bad.add("listen", f.Listen, "its port is no number up to 65535", "write :9909")
	}
	webURL(&bad, "app-drain-url", f.AppDrain, "http://127.0.0.1:PORT/PATH")
	webURL(&bad, "report", f.Report, "https://HOST/PATH")
	oneOf(&bad, "mode", f.Mode)
	oneOf(&bad, "proxy", f.Proxy)
	oneOf(&bad, "log-format", f.LogFormat)
	oneOf(&bad, "fail-readiness", f.FailReadiness)
	c.containers(&bad)
	c.fillPolicy(&bad)
	c.readers(&bad)
	c.exitable(&bad)
	c.reporting(&bad)
	c.judge()
	return c, bad.err()
}

// webURL takes no text at all, or a URL of HTTP.
func webURL(bad *problems, flag, value, such string) {
	if u, err := url.Parse(value); value != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		bad.add(flag, onlyURL(value), "not a URL", "write "+such)
	}
}

func oneOf(bad *problems, flag, value string) {
	if words := budget.Flags()[flag]; !slices.Contains(strings.Split(words, ", "), value) {
		bad.add(flag, value, "unknown value", "write "+words)
	}
}

func (c *config) fillPolicy(bad *problems) {
	f, p := c.flags, &c.policy
	p.Grace, p.Margin = f.GracePeriod.v, f.Margin.v
	p.ConfirmWindow, p.RestartMax = f.ConfirmWindow.v, f.RestartMax.v
	p.DrainMax, p.Settle = f.DrainMax.v, f.Settle.v
	p.AbortAfter, p.IdleSample = 5*time.Second, 30*time.Second
	p.Observe, p.QuitProxy, p.AppDrain = f.Mode == "observe", f.QuitProxy.v, f.AppDrain != ""
	p.Readiness = map[string]drain.FailReadiness{"draining": drain.FailWhenDraining, "trigger": drain.FailAtTrigger}[f.FailReadiness]
	set, known := findPreset(f.Preset)
	if known != nil {
		bad.add("preset", f.Preset, "unknown preset", "write "+strings.Join(known, ", "))
	}
	applyPreset(set, f, p, c.proxyFirst())
	if !f.GracePeriod.bad && p.Grace < time.Second {
		bad.add("grace-period", p.Grace.String(), "less than the one second that Kubernetes knows", "write terminationGracePeriodSeconds of the pod")
	}
	if !f.Poll.bad && f.Poll.v < time.Millisecond {
		bad.add("poll", f.Poll.v.String(), "too short", "write 25ms")
	}
	unseen := false
	for _, name := range split(f.ExitWith, ",") {
		p.IdleSample = 500 * time.Millisecond // an end must be noticed soon
		switch id := p.Find(name); {
		case c.beyond[name]:
			unseen = true
		case id == drain.Stranger:
			bad.add("exit-with", f.ExitWith, "no container "+name, "name those of --hooks or --stop-order")
		default:
			p.ExitWith = p.ExitWith.With(id)
		}
	}
	if unseen { // the others' ends alone would cut it
		p.ExitWith = 0
		c.doubts = append(c.doubts, "--exit-with="+f.ExitWith+": more containers than one agent tells apart: their end is not seen, nothing is ended with them")
	}
}

// readers makes what reads the app and Envoy.
func (c *config) readers(bad *problems) {
	f := c.flags
	if f.EnvoyAdmin != "" && f.Proxy != budget.NoProxy {
		admin, err := envoy.New(f.EnvoyAdmin)
		if err != nil {
			bad.add("envoy-admin", onlyURL(f.EnvoyAdmin), err.Error(), "leave it empty for timer mode")
		}
		c.admin, c.policy.ProxyAdmin = admin, err == nil
	}
	c.credentials(bad)
	for _, spec := range f.AppSource {
		source, err := traffic.ParseSource(spec)
		switch {
		case err != nil:
			bad.add("app-source", spec, err.Error(), "see --help for the forms")
		case source.None():
		case c.beyond[source.Name()]:
		case len(c.sources) == drain.MaxSources:
			c.doubts = append(c.doubts, fmt.Sprintf("--app-source=%s: not read: one agent reads at most %d sources", source.Spec(), drain.MaxSources))
		case c.policy.Find(source.Name()) == drain.Stranger:
			bad.add("app-source", spec, fmt.Sprintf("no container %q", source.Name()), "name one of --hooks or --stop-order: NAME=SOURCE")
		default:
			c.add(source)
			if source.Changed() != nil {
				c.policy.Pushed |= 1 << len(c.policy.Sources)
			}
			c.policy.Sources = append(c.policy.Sources, c.policy.Find(source.Name()))
		}
	}
	for _, spec := range f.Watch {
		watch, err := traffic.ParseWatch(spec)
		switch {
		case err != nil:
			bad.add("watch", spec, err.Error(), "write NAME=port:N or NAME=file:PATH")
		case c.beyond[watch.Name()]:
		case c.policy.Find(watch.Name()) == drain.Stranger:
			bad.add("watch", spec, fmt.Sprintf("no container %q", watch.Name()), "name one of --hooks or --stop-order")
		default:
			c.watches = append(c.watches, watch)
		}
	}
}

// credentials makes what --app-auth-file names. A file that cannot be read yet is a doubt: a Secret may come late.
func (c *config) credentials(bad *problems) {
	paths := map[string][]string{}
	for _, spec := range c.flags.AppAuth {
		name, path, named := strings.Cut(spec, "=")
		if !named || strings.HasPrefix(spec, "/") {
			name, path = "app", spec
		}
		if c.policy.Find(name) == drain.Stranger && !c.beyond[name] {
			bad.add("app-auth-file", name+"=…", fmt.Sprintf("no container %q", name), "name one of --hooks or --stop-order: NAME=PATH")
		}
		paths[name] = append(paths[name], path)
	}
	c.auth = map[string]*traffic.Auth{}
	for name, files := range paths {
		auth, err := traffic.NewAuth(files...)
		if err != nil {
			bad.add("app-auth-file", name+"=…", err.Error(), "write [NAME=]/PATH")
			continue
		}
		c.auth[name] = auth
		if err := auth.Check(); err != nil {
			c.doubts = append(c.doubts, fmt.Sprintf("--app-auth-file of %s: %v; what needs it is unknown until then", name, err))
		}
	}
}

// add takes a source, with what its container's pages ask for.
func (c *config) add(source *traffic.Source) {
	if auth := c.auth[source.Name()]; auth != nil && !source.SetAuth(auth) {
		c.doubts = append(c.doubts, fmt.Sprintf("--app-auth-file: %s needs no credentials", source.Spec()))
	}
	if source.Secret() {
		c.doubts = append(c.doubts, fmt.Sprintf("--app-source=%s: who can read the pod can read its password; put it into a Secret and name that with --app-auth-file", source.Spec()))
	}
	if c.admin != nil {
		source.BehindProxy()
	}
	c.sources = append(c.sources, source)
}

// byContainer are the watches of each container that has any.
func (c *config) byContainer() map[string][]*traffic.Watch {
	all := map[string][]*traffic.Watch{}
	for _, watch := range c.watches {
		all[watch.Name()] = append(all[watch.Name()], watch)
	}
	return all
}

// watched reports whether the container's end can be seen: it is told how, or Envoy sends inbound traffic there.
func (c *config) watched(name string) bool {
	return slices.ContainsFunc(c.watches, func(w *traffic.Watch) bool { return w.Name() == name }) ||
		c.admin != nil && (name == proxyName || c.policy.Find(name) == c.mainWorkload())
}

// judge says what is doubtful: the agent runs with it, because a sidecar that does not start takes the pod down with it.
func (c *config) judge() {
	doubt := func(format string, args ...any) { c.doubts = append(c.doubts, fmt.Sprintf(format, args...)) }
	p := &c.policy
	if b := p.Budget(); b.Scale < 1 {
		doubt("grace period %v is below the %v that one drain needs (confirm-window %v + propagation %v + settle %v + stop shares %v + margin %v): "+
			"stop shares and margin shrink to %.0f %%; raise terminationGracePeriodSeconds and --grace-period",
			p.Grace, b.Floor, p.ConfirmWindow, p.Propagation, p.Settle, b.Floor-p.ConfirmWindow-p.Propagation-p.Settle-p.Margin, p.Margin, 100*b.Scale)
	} else if b.Stop < p.Propagation+p.AnnounceMax {
		doubt("grace period %v leaves %v for draining, less than propagation and announcement: drains may end in deadline", p.Grace, b.Stop)
	}
	switch serving := slices.ContainsFunc(c.watches, func(w *traffic.Watch) bool { return w.Port() > 0 }); {
	case c.admin == nil && c.flags.Proxy != budget.NoProxy:
		doubt("timer mode: --envoy-admin is empty, Envoy's requests are not seen and it is not told to drain")
	case c.admin == nil && !serving && slices.ContainsFunc(p.Containers, func(one drain.Container) bool { return !one.Agent && !one.Worker }):
		doubt("--proxy=none without --watch=NAME=port:N: clients are not counted, each stop waits for quiet-max; name the port that serves")
	}
	if len(c.sources) == 0 {
		doubt("no --app-source: the app's own count of requests is not seen")
	}
	if c.policy.Observe {
		doubt("observe mode: nothing is done to Envoy, hooks are answered after --observe-sleep")
	}
	held := 0
	for i := range p.Containers {
		if p.Hooks.Has(drain.ID(i)) {
			held++
		}
	}
	if held == 1 {
		doubt("only one container has a hook: a pod stop looks like a container restart until SIGTERM; give every container a hook")
	}
}

// exitable refuses to wait for an end that nobody can see.
func (c *config) exitable(bad *problems) {
	for _, name := range split(c.flags.ExitWith, ",") {
		if c.policy.Find(name) != drain.Stranger && !c.watched(name) {
			bad.add("exit-with", c.flags.ExitWith, "nothing tells when "+name+" ends", fmt.Sprintf("say --watch=%s=port:N or --watch=%s=file:PATH", name, name))
		}
	}
}
