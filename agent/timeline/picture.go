package timeline

import (
	"cmp"
	"slices"
	"strings"
)

// picture is one drain, arranged for drawing. All times are milliseconds since T0.
type picture struct {
	total  int64
	phases []row
	hooks  []held
	facts  []Event
	curve  [][2]int64
	blind  []span // when a source that can be read could not be
}

type span struct{ from, to int64 }

// row is a phase and its visits.
type row struct {
	name   string
	visits []span
}

// held is a container's hook. open: not answered yet; would: when observe mode would have answered it, or -1.
type held struct {
	name string
	span
	open  bool
	would int64
}

// maxTotal is longer than any drain; a damaged log must not make a drawing endless.
const maxTotal = 1e12

func newPicture(events []Event, v *Verdict) picture {
	events = lastDrain(events)
	p := picture{total: 1}
	if n := len(events); n > 0 {
		p.total = max(p.total, events[n-1].ElapsedMS)
	}
	if v != nil {
		p.total = max(p.total, v.TotalMS)
	}
	p.addPhases(events, v)
	p.total = min(p.total, maxTotal)
	p.addHooks(events)
	p.addFacts(events)
	p.addCurve(events, v)
	return p
}

// lastDrain leaves out what an earlier drain of the same process left in the recorder: time since T0 began again.
func lastDrain(events []Event) []Event {
	for i := len(events) - 1; i > 0; i-- {
		if events[i].ElapsedMS < events[i-1].ElapsedMS {
			return events[i:]
		}
	}
	return events
}

func (p *picture) addPhases(events []Event, v *Verdict) {
	name, since := "", int64(0)
	for _, e := range events {
		if !e.changesPhase() {
			continue
		}
		if e.ElapsedMS > since || name != "" {
			p.visit(cmp.Or(name, e.From), span{since, e.ElapsedMS})
		}
		name, since = e.To, e.ElapsedMS
	}
	switch {
	case name != "" && (name != "finished" || p.total > since):
		p.visit(name, span{since, p.total})
	case name == "" && v != nil: // only the verdict is left: its phases, one after the other
		for _, name := range sortedPhases(v.Phases) {
			p.visit(name, span{since, since + v.Phases[name]})
			since += v.Phases[name]
		}
		p.total = max(p.total, since)
	}
}

func (p *picture) visit(name string, s span) {
	i := slices.IndexFunc(p.phases, func(r row) bool { return r.name == name })
	if i < 0 {
		i = len(p.phases)
		p.phases = append(p.phases, row{name: name})
	}
	p.phases[i].visits = append(p.phases[i].visits, s)
}

func (r row) spent() int64 {
	var ms int64
	for _, s := range r.visits {
		ms += s.to - s.from
	}
	return ms
}

func (p *picture) addHooks(events []Event) {
	find := func(name string) *held {
		for i := range p.hooks {
			if p.hooks[i].name == name && p.hooks[i].open {
				return &p.hooks[i]
			}
		}
		return nil
	}
	for _, e := range events {
		if name, ok := strings.CutPrefix(e.Action, holdVerb); ok && find(name) == nil {
			p.hooks = append(p.hooks, held{name: name, span: span{e.ElapsedMS, p.total}, open: true, would: -1})
		}
		if name, ok := strings.CutPrefix(e.Action, answerVerb); ok {
			if h := find(name); h != nil {
				h.to, h.open = e.ElapsedMS, false
			}
		}
		if name, ok := strings.CutPrefix(e.Action, wouldVerb); ok {
			if h := find(name); h != nil && h.would < 0 {
				h.would = e.ElapsedMS
			}
		}
	}
}

// addFacts collects what the bars and hooks do not tell: levers pulled, and whatever went wrong.
// An action and its result are one fact, at the time of the action.
func (p *picture) addFacts(events []Event) {
	for _, e := range events {
		lever := e.Action != "" && !isHookAction(e.Action)
		if !lever && e.Level != LevelWarn && e.Level != LevelError {
			continue
		}
		if n := len(p.facts); lever && e.Result != "" && n > 0 && p.facts[n-1].Action == e.Action && p.facts[n-1].Result == "" {
			p.facts[n-1].Result, p.facts[n-1].Level = e.Result, e.Level
			continue
		}
		p.facts = append(p.facts, e)
	}
}

func isHookAction(action string) bool {
	for _, verb := range []string{holdVerb, answerVerb, wouldVerb} {
		if strings.HasPrefix(action, verb) {
			return true
		}
	}
	return false
}

// addCurve takes the verdict's curve, or until there is one the events' own readings. A side that could be read at
// least once counts; where it could not be, the number in flight is unknown.
func (p *picture) addCurve(events []Event, v *Verdict) {
	proxy := slices.ContainsFunc(events, func(e Event) bool { return e.ProxyInFlight != nil })
	app := slices.ContainsFunc(events, func(e Event) bool { return e.AppInFlight != nil })
	for i, e := range events {
		switch {
		case e.To == "finished": // nobody reads any more
		case proxy && e.ProxyInFlight == nil, app && e.AppInFlight == nil:
			to := p.total
			if i+1 < len(events) {
				to = events[i+1].ElapsedMS
			}
			p.blind = append(p.blind, span{e.ElapsedMS, to})
		case proxy || app:
			p.curve = append(p.curve, [2]int64{e.ElapsedMS, max(value(e.ProxyInFlight), value(e.AppInFlight))})
		}
	}
	if v != nil && len(v.InFlightCurve) > 0 {
		p.curve = v.InFlightCurve
	}
	for i := range p.blind {
		p.blind[i].to = p.readAgain(p.blind[i])
	}
}

// readAgain returns when the curve has its first point in a blind span, or the span's end.
func (p *picture) readAgain(s span) int64 {
	for _, point := range p.curve {
		if point[0] > s.from && point[0] < s.to {
			return point[0]
		}
	}
	return s.to
}

// value is a side's share in a maximum: a side that does not exist adds nothing.
func value(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}
