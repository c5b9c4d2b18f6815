package simulation

import (
	"cmp"
	"encoding/json"
	"strings"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/promises"
	"github.com/drain-agent/drain-agent/scripts/promises/fromlog"
)

// saw shows the watch what came to the agent and what it did, and notes the promise that this broke.
func (p *pod) saw(a *process, in drain.Input, s *drain.State, d drain.Decision) {
	p.with(func() {
		a.beside.At(in.At)
		a.show(in)
		seen := promises.Decision{
			From: promises.Phase(d.From), To: promises.Phase(d.To), Answered: promises.Set(d.Release), Do: promises.Actions(d.Do),
			Verdict: d.Verdict.String(), Exit: d.Exit, Arrived: max(0, p.lastConn-a.began),
		}
		if d.From == drain.Settling && d.To == drain.Stopping {
			seen.Score, seen.Scored = drain.Score(&p.policy, s)
		}
		if why := a.beside.Decided(a.told, seen); why != "" {
			p.breaks(why)
		}
	})
}

// watched is what somebody beside the agent is told of its policy.
func (p *pod) watched() *promises.Pod {
	its := &p.policy
	pod := &promises.Pod{
		Sources: []int{0}, Hooks: promises.Set(its.Hooks), ExitWith: promises.Set(its.ExitWith), Admin: its.ProxyAdmin, Observe: its.Observe,
		Grace: its.Grace, Margin: its.Margin, Confirm: its.ConfirmWindow, RestartMax: its.RestartMax,
		Propagation: its.Propagation, QuietMin: its.QuietMin, QuietMax: its.QuietMax, Settle: its.Settle,
		AnnounceMax: its.AnnounceMax, DrainMax: its.DrainMax, AbortAfter: its.AbortAfter, AcceptLoss: its.AcceptLoss,
	}
	for _, c := range its.Containers {
		pod.Containers = append(pod.Containers, promises.Container(c))
	}
	return pod
}

// logged is the same for who has nothing but the log.
func (p *pod) logged() *promises.Pod {
	pod := p.watched()
	pod.Log = &promises.LogView{Slack: fromlog.Slack}
	return pod
}

func (a *process) show(in drain.Input) {
	w := &a.beside
	switch in.Kind {
	case drain.HookCalled:
		w.Called(int(min(in.Container, drain.Stranger)), in.Authentic)
	case drain.Terminated:
		w.Sigterm(a.told)
	case drain.ProxySampled:
		w.Proxy(shown(in.Proxy.InFlight), shown(in.Proxy.Bytes), shown(in.Proxy.Conns), shown(in.Proxy.NewConns), shown(in.Proxy.Requests))
	case drain.SocketsSampled:
		w.Sockets(shown(in.Sockets.Conns), shown(in.Sockets.NewConns), shown(in.Sockets.Bytes))
	case drain.AppSampled:
		w.App(in.Source, shown(in.InFlight), in.Closed)
	case drain.Seen:
		w.Saw(a.told, int(in.Container), promises.Liveness(in.Live), in.At-cmp.Or(in.Looked, in.At))
	case drain.Described:
		w.Described(in.Facts.Handover, in.Facts.Replaced)
	case drain.Acted:
		w.Acted(promises.Actions(in.Action), in.OK)
	case drain.AskedDrain:
		w.Want(int(in.By), true)
	case drain.AskedUndrain:
		w.Want(int(in.By), false)
	case drain.AskedFinish:
		w.Finish()
	case drain.Restored:
		w.Restored(uint8(in.Journal.Wanted), in.Journal.HealthFailed, in.Journal.Ended)
	case drain.Tick:
	}
}

func shown(r drain.Reading) promises.Reading {
	return promises.Reading{N: r.N, Known: r.Known, At: r.At, Every: r.Every}
}

// logText is the agent's log.
type logText struct{ strings.Builder }

func (t *logText) write(l timeline.Line) {
	line, err := json.Marshal(l)
	if err != nil {
		panic(err)
	}
	t.Write(append(line, '\n'))
}
