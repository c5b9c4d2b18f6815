package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/conductor"
	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
	"github.com/drain-agent/drain-agent/agent/internal/traffic"
)

// wires joins the adapters to what the conductor wants. The adapters know nothing of each other: what Envoy says of its ports is
// what the sockets are looked at for.
type wires struct {
	c        *config
	directed atomic.Bool
	inbound  atomic.Pointer[inboundPorts]
	app      atomic.Pointer[[]*traffic.Watch] // the ports that Envoy sends inbound traffic to
	owner    atomic.Pointer[owner]
	http     *http.Client
}

type inboundPorts struct {
	ports   []uint16
	sockets *traffic.Inbound
	watches []*traffic.Watch
}

func newWires(c *config) *wires {
	w := &wires{c: c, http: &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}}
	w.directed.Store(true)
	return w
}

func (w *wires) world() conductor.World {
	out := conductor.World{Act: w.act, Sockets: w.sockets}
	if w.c.flags.Control != "" {
		out.Journal = filepath.Join(filepath.Dir(w.c.flags.Control), "journal.json")
	}
	if w.c.admin != nil {
		out.Describe, out.Proxy = w.describe, w.proxy
	}
	for i, source := range w.c.sources {
		out.Apps = append(out.Apps, conductor.AppSource{Container: w.c.policy.Sources[i], Spec: source.Spec(), Read: source.Read, Classes: source.Classes})
	}
	watched := map[string]bool{proxyName: w.c.admin != nil}
	byContainer := w.c.byContainer()
	for _, name := range slices.Sorted(maps.Keys(byContainer)) {
		watched[name] = true
		watches := byContainer[name]
		look := func(ctx context.Context) (drain.Liveness, error) { return together(ctx, watches) }
		out.Watches = append(out.Watches, conductor.Watch{Container: w.c.policy.Find(name), Look: look})
	}
	if app := w.c.mainWorkload(); app != drain.Nobody && !watched[w.c.policy.Name(app)] && w.c.admin != nil {
		out.Watches = append(out.Watches, conductor.Watch{Container: app, Look: w.behindEnvoy})
	}
	if w.c.admin == nil {
		w.followAppPort()
	}
	return out
}

// mainWorkload is the container that Envoy's inbound traffic goes to: app, or the only one there is.
func (c *config) mainWorkload() drain.ID {
	if app := c.policy.Find("app"); app != drain.Stranger {
		return app
	}
	only := drain.Nobody
	for i, container := range c.policy.Containers {
		if container.Agent || container.Proxy {
			continue
		}
		if only != drain.Nobody {
			return drain.Nobody
		}
		only = drain.ID(i)
	}
	return only
}

func (w *wires) describe(ctx context.Context) (conductor.Description, error) {
	d, err := w.c.admin.Describe(ctx)
	if err != nil {
		return conductor.Description{}, fmt.Errorf("describe envoy: %w", err)
	}
	w.directed.Store(d.Directed)
	own, evidence := ownerOf(w.c.flags.Proxy, d)
	w.owner.Store(&own)
	w.follow(d.InboundPorts)
	var behind []*traffic.Watch
	for _, port := range d.UpstreamPorts {
		behind = append(behind, traffic.PortWatch("app", port))
	}
	w.app.Store(&behind)
	return conductor.Description{
		Epoch: d.Epoch,
		Facts: drain.ProxyFacts{Known: true, Gradual: d.Gradual, DrainTime: d.DrainTime, Directed: d.Directed, Uptime: d.Uptime, Handover: own.drain != ""},
		Text:  describeText(d) + "; " + own.text(evidence),
	}, nil
}

func describeText(d envoy.Description) string {
	strategy, direction := "immediate", "inbound listeners are marked"
	if d.Gradual {
		strategy = "gradual"
	}
	if !d.Directed {
		direction = "no listener has a traffic_direction: a drain concerns all of them"
	}
	return fmt.Sprintf("envoy %s: drain strategy %s over %v, inbound ports %s, app behind ports %s; %s",
		d.Version, strategy, d.DrainTime, ports(d.InboundPorts), ports(d.UpstreamPorts), direction)
}

func ports(list []uint16) string {
	if len(list) == 0 {
		return "unknown"
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ","), "[]")
}

// follow looks at the sockets of these ports from now on.
func (w *wires) follow(list []uint16) {
	if now := w.inbound.Load(); len(list) == 0 || now != nil && slices.Equal(now.ports, list) {
		return
	}
	next := &inboundPorts{ports: list, sockets: traffic.NewInbound(list)}
	for _, port := range list {
		next.watches = append(next.watches, traffic.PortWatch(proxyName, port))
	}
	w.inbound.Store(next)
}

// followAppPort is for pods without an Envoy that can be read: the app's own port is where clients come in.
func (w *wires) followAppPort() {
	for _, spec := range w.c.flags.Watch {
		var port uint16
		if _, rest, ok := strings.Cut(spec, "=port:"); ok {
			if _, err := fmt.Sscanf(rest, "%d", &port); err == nil {
				w.follow([]uint16{port})
				return
			}
		}
	}
}

func (w *wires) sockets(ctx context.Context) (conns, newConns drain.Count, err error) {
	now := w.inbound.Load()
	if now == nil {
		return conns, newConns, nil
	}
	seen := now.sockets.Look(ctx)
	return seen.Conns, seen.NewConns, seen.Err
}

func (w *wires) proxy(ctx context.Context) conductor.ProxyLook {
	s := w.c.admin.Sample(ctx)
	if s.Changed {
		_, _ = w.describe(ctx) // a failure shows in the next sample
	}
	look := conductor.ProxyLook{
		Errors:   s.Errors,
		InFlight: s.InFlight, Classes: s.Classes, Conns: s.Conns, NewConns: s.NewConns, Requests: s.Requests,
		Age: s.Age, StatsAge: s.StatsAge, RequestsAge: s.RequestsAge, StatsEvery: s.StatsEvery,
		Rung: s.Rung, Took: s.Took, Spared: s.Spared, Failure: string(s.Failure), Live: drain.Up,
	}
	if len(s.Demoted) > 0 {
		look.Note = "rungs given up: " + strings.Join(s.Demoted, "; ")
	}
	if s.Err != nil && s.Failure != envoy.Refused {
		look.Note = fmt.Sprintf("envoy cannot be read: %v", s.Err)
	}
	switch s.Failure {
	case "": // it answers, though what is asked for may not be there
	case envoy.Refused:
		look.Live, look.Took = w.proxyPorts(ctx), 0 // nobody's time was spent
	default:
		look.Live = drain.Unseen
	}
	return look
}

// proxyPorts says what became of an Envoy whose admin refuses: it is gone when its inbound ports are too.
func (w *wires) proxyPorts(ctx context.Context) drain.Liveness {
	now := w.inbound.Load()
	if now == nil {
		return drain.Unseen
	}
	live, _ := together(ctx, now.watches) // who cannot be seen is waited for
	return live
}

// together is the liveness of one container with several signs of life: it is gone when all say so.
func together(ctx context.Context, watches []*traffic.Watch) (drain.Liveness, error) {
	all := drain.Gone
	for _, watch := range watches {
		live, err := watch.Look(ctx)
		switch {
		case err != nil || live == drain.Unseen:
			return drain.Unseen, err
		case live == drain.Up:
			return drain.Up, nil
		case live == drain.Leaving:
			all = drain.Leaving
		}
	}
	return all, nil
}

var errNoPorts = errors.New("look for the app: envoy has not told the port behind it; say --watch=app=port:N")

func (w *wires) behindEnvoy(ctx context.Context) (drain.Liveness, error) {
	behind := w.app.Load()
	if behind == nil || len(*behind) == 0 {
		return drain.Unseen, errNoPorts
	}
	return together(ctx, *behind)
}

func (w *wires) act(ctx context.Context, a drain.Actions) error {
	if a == drain.TellApp {
		return w.tellApp(ctx)
	}
	if w.c.admin == nil {
		return errors.New("envoy's admin is not configured")
	}
	switch a {
	case drain.FailHealth:
		return w.c.admin.FailHealthCheck(ctx)
	case drain.PassHealth:
		return w.c.admin.PassHealthCheck(ctx)
	case drain.DrainInbound:
		return w.c.admin.DrainListeners(ctx, w.directed.Load())
	case drain.HandOver:
		return w.askOwner(ctx, w.ownerNow().drain)
	case drain.Quit:
		if quit := w.ownerNow().quit; quit != "" && w.askOwner(ctx, quit) == nil {
			return nil
		}
		return w.c.admin.Quit(ctx)
	default:
		return fmt.Errorf("no way to do %v", a)
	}
}

func (w *wires) ownerNow() owner {
	if own := w.owner.Load(); own != nil {
		return *own
	}
	return owner{}
}

// ownerLimit bounds a call to Envoy's owner, which is a neighbour on loopback: the proxy's hook may be waiting for it.
const ownerLimit = 500 * time.Millisecond

func (w *wires) askOwner(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, ownerLimit)
	defer cancel()
	return w.post(ctx, "ask envoy's owner", url)
}

func (w *wires) tellApp(ctx context.Context) error {
	return w.post(ctx, "tell the app to drain", w.c.flags.AppDrain)
}

func (w *wires) post(ctx context.Context, what, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, http.NoBody)
	if err != nil {
		return fmt.Errorf("%s: %v", what, err)
	}
	reply, err := w.http.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %v", what, err)
	}
	_ = reply.Body.Close()
	if reply.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s: POST %s: %s", what, url, reply.Status)
	}
	return nil
}

// close ends what the adapters keep open.
func (w *wires) close() {
	for _, source := range w.c.sources {
		_ = source.Close()
	}
	if w.c.admin != nil {
		w.c.admin.Close()
	}
}

// ready reports whether Envoy answers that it is ready; without an admin there is nothing to wait for.
func (w *wires) ready(ctx context.Context) error {
	if w.c.admin == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if ok, err := w.c.admin.Ready(ctx); err != nil {
		return fmt.Errorf("envoy does not answer: %v", err)
	} else if !ok {
		return errors.New("envoy is not ready")
	}
	return nil
}
