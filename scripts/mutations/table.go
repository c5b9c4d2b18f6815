package main

// mutation is one way to break one promise.
type mutation struct {
	name  string
	edits []edit
}

type edit struct{ file, old, becomes string }

func one(name, file, old, becomes string) mutation {
	return mutation{name, []edit{{file, old, becomes}}}
}

// mutations break one promise each; the last ones put back what the first edition had wrong, and what the simulation itself found.
var mutations = []mutation{ //nolint:gochecknoglobals // a table
	one("a few requests in flight keep nobody alive", "waits.go", "case r.N != 0:", "case r.N > 3:"),
	one("unknown is zero", "waits.go", "case !r.Fresh(s.Now):", "case r.Known && !r.Fresh(s.Now):"),
	one("bytes under way keep nobody alive", "waits.go", "case n > 0:\n\t\t\treturn Why{Code: BytesUnderWay, N: n}", "case n > 1<<40:\n\t\t\treturn Why{Code: BytesUnderWay, N: n}"),
	one("hooks are answered after their deadline", "budget.go", "b.Hard = p.Grace - b.Margin", "b.Hard = p.Grace + b.Margin"),
	one("a grace period shorter than it was told changes nothing", "step.go", "s.Hooks[agent].Held && s.Hard == 0 {", "s.Hooks[agent].Held && s.Hard != 0 {"),
	one("idle connections that will come back are not waited for", "waits.go", "case score > p.AcceptLoss:", "case score > 1000*p.AcceptLoss:"),
	one("idle connections that nobody uses are waited for", "score.go", "return hit + rate*p.Exposure.Seconds(), true", "return hit + (rate+float64(s.openConns().N))*p.Exposure.Seconds(), true"),
	one("what was done to Envoy is not undone", "levers.go", "&FailHealth != 0 && s.Wanted == 0 {", "&FailHealth != 0 && s.Wanted != 0 {"),
	one("the irreversible action rests on what anybody can forge", "levers.go", "final := s.Authentic && !s.Lone && s.Facts.Known", "final := s.Facts.Known"),
	one("a container that dies keeps others waiting", "state.go", "h.LiveAt-h.GoneSince >= goneTwice", "h.LiveAt-h.GoneSince >= 100*goneTwice"),
	one("no verdict", "finish.go", "if s.EndedBy.Code != AlreadyTold {", "if s.EndedBy.Code == AlreadyTold {"),
	one("a deadline is called clean", "stop.go", "s.beginStopping(p, Deadline, Why{Code: BudgetOver, For: b.Stop}, d)", "s.beginStopping(p, Clean, Why{Code: BudgetOver, For: b.Stop}, d)"),
	one("Envoy is let go before the app", "stop.go", "!late || !s.called(id)", "!late || s.Now >= 0 || !s.called(id)"),
	one("new connections are not waited for", "waits.go", "conns.silence(s.T0) < need ||", "conns.silence(s.T0) < need-need ||"),
	one("observe mode acts", "levers.go", "s.Want = 0 // the one", "s.Want |= 0 // the one"),

	one("first edition: propagation is waited for in part", "waits.go", "if s.Now < s.T0+p.Propagation {", "if s.Now < s.T0+p.Propagation/2 {"),
	{"first edition: quiet-max ends the wait for propagation", []edit{
		{"waits.go", `{Propagation, "peers that do not know yet"`, `{Silence, "peers that do not know yet"`},
		{"waits.go", "return s.T0 + p.Propagation + p.QuietMax", "return s.T0 + p.QuietMax"},
	}},
	one("first edition: a listener closed on the drain URL is a death", "state.go", "if !s.gone(id) || !s.told(id) || id == p.Proxy() {", "if s.gone(id) || !s.told(id) || id == p.Proxy() {"),
	one("first edition: late exec hooks find the agent gone", "budget.go", "p.ConfirmWindow+400*time.Millisecond", "p.ConfirmWindow"),

	one("second edition: who was let go in a stop that was given up has died", "state.go", "h.AnsweredAt <= h.GoneSince || s.letGoBefore(p, id)", "h.AnsweredAt <= h.GoneSince"),
	one("second edition: SIGTERM without hooks is a restart though the app leaves", "state.go", "return lately && !p.Containers[id].Agent", "return s.Now < 0 && lately && !p.Containers[id].Agent"),
	one("second edition: Envoy's owner is told after the hook's answer", "stop.go", "h.Held && (id != p.Proxy() || !s.handingOver(p)):", "h.Held:"),
	one("second edition: what stands in Envoy's buffers holds for ever", "waits.go", "if own.At-s.OwnBytesSince < StallAfter {", "if own.Known {"),
	one("second edition: who is killed at the end of its share ended well", "stop.go", "if s.Ending == Clean {\n\t\ts.Ending = Deadline", "if s.Now < 0 {\n\t\ts.Ending = Deadline"),
	one("second edition: silence grows without a look", "arrivals.go", "return a.Last.At - max(a.LastAt, since)", "return a.Last.At + time.Second - max(a.LastAt, since)"),
	one("second edition: TCP checks of Envoy's port are traffic", "arrivals.go", "case a == &s.Requests || !s.requestsTell() ||", "case s.Now >= 0 || !s.requestsTell() ||"),
	one("second edition: a zero from before its hook lets a container go", "waits.go", "r.N == 0 && r.At >= s.Hooks[id].Called }", "r.N == 0 }"),
	one("second edition: what a stop that is begun anew would have ended with is forgotten", "stop.go", "if s.Ending > Clean {\n\t\tif s.EarlyT0", "if s.Now < 0 {\n\t\tif s.EarlyT0"),
	one("second edition: what it would have ended with is said of one long after", "stop.go", "if s.T0 > s.EarlyT0+p.Grace+p.AbortAfter {", "if s.Now < 0 {"),
	{"second edition: an app is blamed for the end of its proxy", []edit{
		{"stop.go", "return s.Hooks[proxy].UpAt <= ended && s.Now < ended+blameAfter", "return s.Hooks[proxy].UpAt <= ended && s.Now < ended"},
		{"stop.go", "if s.newestEnd(p) > s.EndAsked {", "if s.Now < 0 {"},
	}},
	one("second edition: who is killed before anybody looked has not died", "state.go", "return (h.UpAt >= s.T0 || s.called(id)) &&", "return h.UpAt >= s.T0 &&"),
	one("second edition: a failed health check outlives its agent", "step.go", "if j.HealthFailed && s.Wanted == 0 {", "if j.HealthFailed && s.Now < 0 {"),
	one("second edition: an earlier agent's verdict is said again", "alive.go", "case s.Sigterm && s.Past:", "case s.Sigterm && s.Now < 0:"),

	one("found here: an app that closed its port on the drain URL proves a stop", "finish.go", "if s.told(ID(i)) && ID(i) != p.Proxy() {", "if s.told(ID(i)) && ID(i) > Stranger {"),
	one("found here: an app that outlives its share is taken for no stop", "finish.go", "if p.Observe || s.Alive.Code != NoReason || s.atWork(p) != Nobody {", "if s.Now < 0 {"),
	one("found here: a page that hangs behind a closed port is zero", "waits.go", "!s.gone(who) || s.told(who) && s.Closed>>source&1 == 0", "!s.gone(who) || s.told(who) && s.Sources[source].Fresh(s.Now)"),
	one("found here: an app that still answers behind its closed port is gone", "stop.go", "s.gone(id) && !s.mayLive(p, id) ||", "s.gone(id) ||"),
	one("found here: an app that hangs behind its closed port is gone", "state.go", "s.Closed>>i&1 == 0 {", "s.Sources[i].Fresh(s.Now) {"),
	one("found here: a hook called twice takes a proved stop back", "finish.go", "if s.proved(p) || s.Hard != 0 {", "if s.Authentic && !s.Lone || s.Hard != 0 {"),
	one("found here: checks that come close together keep an idle pod waiting", "stop.go", "case !still && why.Code == RequestAwaited:", "case !still && s.Now < 0:"),
	one("found here: a wish that nobody has any more is tried again", "levers.go", "if s.Wanted == 0 && s.Phase < Draining {", "if s.Now < 0 {"),
}
