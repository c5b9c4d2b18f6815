package drain

import (
	"cmp"

	"github.com/drain-agent/drain-agent/scripts/promises"
)

// watched is what somebody beside the agent is told of its policy.
func watched(p *Policy) *promises.Pod {
	pod := &promises.Pod{
		Hooks: promises.Set(p.Hooks), ExitWith: promises.Set(p.ExitWith), Admin: p.ProxyAdmin, Observe: p.Observe,
		Grace: p.Grace, Margin: p.Margin, Confirm: p.ConfirmWindow, RestartMax: p.RestartMax,
		Propagation: p.Propagation, QuietMin: p.QuietMin, QuietMax: p.QuietMax, Settle: p.Settle,
		AnnounceMax: p.AnnounceMax, DrainMax: p.DrainMax, AbortAfter: p.AbortAfter, AcceptLoss: p.AcceptLoss,
	}
	for _, c := range p.Containers {
		pod.Containers = append(pod.Containers, promises.Container(c))
	}
	for _, who := range p.Sources {
		pod.Sources = append(pod.Sources, int(who))
	}
	return pod
}

// violated shows the world's watch what came and what was decided, and returns the first promise that was broken, or "".
func violated(w *world, in Input, d Decision) string {
	if w.pod == nil || w.podOf != policyKey(&w.p) {
		w.pod, w.podOf = watched(&w.p), policyKey(&w.p)
	}
	w.watch.At(w.now)
	show(&w.watch, w.pod, in)
	seen := promises.Decision{
		From: promises.Phase(d.From), To: promises.Phase(d.To), Answered: promises.Set(d.Release), Do: promises.Actions(d.Do),
		Verdict: d.Verdict.String(), Exit: d.Exit, Arrived: w.arrivedAt,
	}
	if d.From == Settling && d.To == Stopping {
		seen.Score, seen.Scored = Score(&w.p, &w.s)
	}
	if broken := w.watch.Decided(w.pod, seen); broken != "" {
		return broken
	}
	if !d.Exit && d.Wake == Never {
		return "no wake time in " + d.To.String()
	}
	return ""
}

// policyKey tells a changed policy: tests change a world's after its start.
func policyKey(p *Policy) [4]int64 {
	return [4]int64{int64(p.Hooks), int64(p.Grace), int64(p.ExitWith), int64(len(p.Containers))}
}

func show(w *promises.Watch, pod *promises.Pod, in Input) {
	switch in.Kind {
	case HookCalled:
		w.Called(int(min(in.Container, Stranger)), in.Authentic)
	case Terminated:
		w.Sigterm(pod)
	case ProxySampled:
		w.Proxy(shown(in.Proxy.InFlight), shown(in.Proxy.Bytes), shown(in.Proxy.Conns), shown(in.Proxy.NewConns), shown(in.Proxy.Requests))
	case SocketsSampled:
		w.Sockets(shown(in.Sockets.Conns), shown(in.Sockets.NewConns), shown(in.Sockets.Bytes))
	case AppSampled:
		w.App(in.Source, shown(in.InFlight), in.Closed)
	case Seen:
		w.Saw(pod, int(in.Container), promises.Liveness(in.Live), in.At-cmp.Or(in.Looked, in.At))
	case Described:
		w.Described(in.Facts.Handover, in.Facts.Replaced)
	case Acted:
		w.Acted(promises.Actions(in.Action), in.OK)
	case AskedDrain:
		w.Want(int(in.By), true)
	case AskedUndrain:
		w.Want(int(in.By), false)
	case AskedFinish:
		w.Finish()
	case Restored:
		w.Restored(uint8(in.Journal.Wanted), in.Journal.HealthFailed, in.Journal.Ended)
	case Tick:
	}
}

func shown(r Reading) promises.Reading {
	return promises.Reading{N: r.N, Known: r.Known, At: r.At, Every: r.Every}
}
