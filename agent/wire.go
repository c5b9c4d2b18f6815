package main

import (
	"bytes"
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
	"github.com/drain-agent/drain-agent/agent/internal/neterr"
	"github.com/drain-agent/drain-agent/agent/internal/traffic"
	"github.com/drain-agent/drain-agent/agent/secret"
)

// wires joins the adapters to what the conductor wants. The adapters know nothing of each other: what Envoy says of its ports is
// what the sockets are looked at for.
type wires struct {
	c        *config
	directed atomic.Bool
	inbound  atomic.Pointer[inboundPorts]
	app      atomic.Pointer[[]*traffic.Watch] // the ports that Envoy sends inbound traffic to
	owner    atomic.Pointer[owner]
	refused  time.Time // since when the admin has refused; only proxy knows it
	http     *http.Client
}

type inboundPorts struct {
	ports   []uint16
	sockets *traffic.Inbound
	watches []*traffic.Watch
}

func newWires(c *config) *wires {
	w := &wires{c: c, http: &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}, CheckRedirect: sameServer}}
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
	shown := map[string]int{}
	for i, source := range w.c.sources {
		spec := source.Spec()
		if shown[spec]++; shown[spec] > 1 { // alike but for what is not shown
			spec += fmt.Sprintf(" (%d)", shown[spec])
		}
		out.Apps = append(out.Apps, conductor.AppSource{Container: w.c.policy.Sources[i], Spec: spec, Read: source.Read, Classes: source.Classes, Changed: source.Changed()})
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
		w.followClients()
	}
	return out
}

// sameServer keeps a POST, and what was put on it as credentials, where it was meant to go.
func sameServer(to *http.Request, via []*http.Request) error {
	if to.URL.Host != via[0].URL.Host || to.URL.Scheme != via[0].URL.Scheme || len(via) > 3 {
		return http.ErrUseLastResponse
	}
	to.Header.Del("Referer")
	return nil
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
		Facts: drain.ProxyFacts{Known: true, Gradual: d.Gradual, DrainTime: d.DrainTime, Directed: d.Directed, Uptime: d.Uptime, Requests: d.HTTPOnly, Handover: own.drain != "", Lingers: own.lingers},
		Text:  describeText(d) + "; " + own.text(evidence),
		Doubt: d.Doubt(w.c.policy.Budget().Stop),
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
	if w.c.policy.Direct() {
		next.sockets.CountData()
	}
	w.inbound.Store(next)
}

// followClients is for pods without an Envoy that can be read: clients come in at the containers' own ports, the first that is named of
// each. A worker serves nobody.
func (w *wires) followClients() {
	var list []uint16
	seen := map[string]bool{}
	for _, watch := range w.c.watches {
		container := w.c.policy.Containers[w.c.policy.Find(watch.Name())]
		if port := watch.Port(); port > 0 && !seen[watch.Name()] && !container.Worker {
			seen[watch.Name()] = true
			list = append(list, port)
		}
	}
	w.follow(list)
}

func (w *wires) sockets(ctx context.Context) (conductor.SocketsLook, error) {
	now := w.inbound.Load()
	if now == nil {
		return conductor.SocketsLook{}, nil
	}
	seen := now.sockets.Look(ctx)
	return conductor.SocketsLook{Conns: seen.Conns, NewConns: seen.NewConns, Data: seen.Data, Bytes: seen.Bytes, Stalled: seen.Stalled}, seen.Err
}

func (w *wires) proxy(ctx context.Context, since time.Time) conductor.ProxyLook {
	s := w.c.admin.Prove(ctx, since)
	look := conductor.ProxyLook{
		Changed:  s.Changed,
		Errors:   s.Errors,
		InFlight: s.InFlight, Bytes: s.Bytes, Classes: s.Classes, Conns: s.Conns, NewConns: s.NewConns, Requests: s.Requests,
		Age: s.Age, StatsAge: s.StatsAge, RequestsAge: s.RequestsAge, StatsEvery: s.StatsEvery,
		Rung: s.Rung, Took: s.Took, Spared: s.Spared, Behind: s.Behind, Failure: string(s.Failure), Live: drain.Up,
	}
	if len(s.Demoted)+len(s.Notes) > 0 {
		look.Note = "envoy is read in part: " + strings.Join(append(s.Notes, s.Demoted...), "; ")
	}
	if s.Err != nil && s.Failure != envoy.Refused {
		look.Note = fmt.Sprintf("envoy cannot be read: %v", s.Err)
	}
	if s.Failure != envoy.Refused {
		w.refused = time.Time{}
	} else if w.refused.IsZero() {
		w.refused = time.Now()
	}
	switch s.Failure {
	case "": // it answers, though what is asked for may not be there
	case envoy.Timeout, envoy.Status: // somebody holds the admin's port
	case envoy.Refused:
		look.Live, look.Took = w.proxyPorts(ctx), 0 // nobody's time was spent
	default:
		look.Live = drain.Unseen
	}
	return look
}

// refusedLong is how long an admin must refuse before that alone means that Envoy is gone: between two processes of a hot restart nobody
// listens there for a moment.
const refusedLong = 300 * time.Millisecond

// proxyPorts says what became of an Envoy whose admin refuses: it is gone when its inbound TCP ports are too. Where it has none (UDP
// only, or nobody could read them) the admin's own port has to do, which a living Envoy never closes.
func (w *wires) proxyPorts(ctx context.Context) drain.Liveness {
	now := w.inbound.Load()
	if now == nil {
		if time.Since(w.refused) < refusedLong {
			return drain.Unseen
		}
		return drain.Gone
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
	return w.post(ctx, "ask envoy's owner", url, nil, nil)
}

func (w *wires) tellApp(ctx context.Context) error {
	return w.post(ctx, "tell the app to drain", w.c.flags.AppDrain, w.c.auth["app"], nil)
}

func (w *wires) post(ctx context.Context, what, url string, auth *traffic.Auth, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %v", what, neterr.Plain(err))
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	client, err := auth.Client(w.http, req)
	if err != nil {
		return fmt.Errorf("%s: %v", what, err)
	}
	reply, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%s: POST %s: %v", what, secret.Hide(url), neterr.Plain(err))
	}
	_ = reply.Body.Close()
	if reply.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s: POST %s: %s", what, secret.Hide(url), reply.Status)
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
