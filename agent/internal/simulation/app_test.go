package simulation

import (
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// app is a model of the server behind Envoy.
type app struct {
	up, listens bool
	portClosed  bool // told to drain, it takes no new connection; Envoy's own to it live on
	told        bool // SIGTERM
	ended       time.Duration
	endedBy     string
	active      map[*request]bool
	manner      string        // what it does on SIGTERM: one of the next three
	exitsAfter  time.Duration // from SIGTERM, or from its last request
}

const (
	atOnce   = "exits at once"
	graceful = "finishes what it has"
	stubborn = "ignores SIGTERM"
)

func (a *app) live() drain.Liveness {
	switch {
	case !a.up:
		return drain.Gone
	case a.listens && !a.portClosed:
		return drain.Up
	case len(a.active) > 0:
		return drain.Leaving
	}
	return drain.Gone // no listener, no connection
}

// terminate is SIGTERM to the app.
func (p *pod) terminate(by string) {
	a := &p.app
	if a.told || !a.up || a.manner == stubborn {
		return
	}
	a.told, a.endedBy = true, by
	p.note("app gets SIGTERM")
	if a.manner == atOnce {
		p.after(a.exitsAfter, func() { p.endApp(by) })
		return
	}
	a.listens = false
	a.maybeEnd(p)
}

// maybeEnd ends an app that was told to and has nothing left.
func (a *app) maybeEnd(p *pod) {
	if a.up && a.told && !a.listens && len(a.active) == 0 {
		p.after(a.exitsAfter, func() { p.endApp(a.endedBy) })
	}
}

// endApp ends the process: what it holds is cut, and Envoy answers 503 for it.
func (p *pod) endApp(by string) {
	a := &p.app
	if !a.up {
		return
	}
	a.up, a.listens, a.ended, a.endedBy = false, false, p.now, by
	p.note("app ends: " + by)
	for _, r := range ordered(a.active) {
		r.inApp = false
		p.lose(r, "cut in the app", by)
		p.after(hop, func() {
			if !r.over {
				p.respond(r)
			}
		})
	}
	clear(a.active)
}
