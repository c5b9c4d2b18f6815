package timeline

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Text returns the event as one line for people, without a line break: time since T0, a mark ("!" warning, "!!" error,
// ">" a change of phase), the phase, requests in flight, what happened and why, and in brackets what else was read.
// "?" is a reading that nobody could take; a score is shown where there is one.
func (e Event) Text() string {
	line := fmt.Sprintf("%9s %2s %-11s  proxy %3s  app %3s  %s  [%s conn",
		elapsed(e.ElapsedMS), e.mark(), plain(cmp.Or(e.To, e.From)), count(e.ProxyInFlight), count(e.AppInFlight),
		e.what(), count(e.Connections))
	if finite(e.Score) != nil {
		line += ", score " + score(e.Score)
	}
	if e.LeftMS != nil {
		line += ", " + seconds(*e.LeftMS) + " left"
	}
	return line + "]"
}

// Text returns the verdict as one line for people, without a line break, in the columns of [Event.Text].
func (v Verdict) Text() string {
	return fmt.Sprintf("%9s  = %-11s  %s: %s; %s; trigger: %s; %s", elapsed(v.TotalMS), "verdict",
		plain(v.Outcome), v.why(), strings.Join(v.counts(), ", "), plain(cmp.Or(v.Trigger, "unknown")), v.phaseTimes())
}

func (e Event) mark() string {
	switch {
	case e.Level == LevelError:
		return "!!"
	case e.Level == LevelWarn:
		return "!"
	case e.changesPhase():
		return ">"
	}
	return ""
}

func (e Event) changesPhase() bool { return e.To != "" && e.To != e.From }

// what joins what was done, how it ended and why.
func (e Event) what() string {
	done := plain(e.Action)
	if e.Result != "" {
		done = strings.TrimPrefix(done+": "+plain(e.Result), ": ")
	}
	if done != "" && e.Reason != "" {
		return done + "; " + plain(e.Reason)
	}
	return cmp.Or(done, plain(e.Reason))
}

func (v Verdict) why() string { return plain(cmp.Or(v.Reason, "no reason given")) }

// counts returns what a drain did to its clients, worst first.
func (v Verdict) counts() []string {
	texts := []string{
		"cut " + v.cutText(),
		"arrivals after release " + count(v.ArrivalsAfterRelease),
		"new connections " + count(v.NewConnectionsAfterT0),
		"idle left " + count(v.IdleConnectionsLeft),
		"score " + score(v.Score),
	}
	if v.HeldLongest != "" {
		texts = append(texts, "held longest by "+plain(v.HeldLongest))
	}
	return texts
}

func (v Verdict) cutText() string {
	var texts []string
	for _, what := range slices.Sorted(maps.Keys(v.Cut)) {
		texts = append(texts, fmt.Sprintf("%s %d", plain(what), v.Cut[what]))
	}
	if len(texts) == 0 && v.Outcome != "clean" { // what could not be read may have been cut
		return "nothing seen"
	}
	return cmp.Or(strings.Join(texts, " + "), "nothing")
}

func (v Verdict) phaseTimes() string {
	var texts []string
	for _, name := range sortedPhases(v.Phases) {
		texts = append(texts, plain(name)+" "+seconds(v.Phases[name]))
	}
	return strings.Join(texts, ", ")
}

func elapsed(ms int64) string { return fmt.Sprintf("%+.3fs", float64(ms)/1000) }

func seconds(ms int64) string { return fmt.Sprintf("%.3fs", float64(ms)/1000) }

func count(n *int64) string {
	if n == nil {
		return "?"
	}
	return strconv.FormatInt(*n, 10)
}

func score(f *float64) string {
	if f = finite(f); f == nil {
		return "?"
	}
	return strconv.FormatFloat(*f, 'g', 3, 64)
}

// plain takes out whatever could break a line or steer a terminal: texts may come from the network.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
