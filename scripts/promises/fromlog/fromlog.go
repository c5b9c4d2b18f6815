// Package fromlog judges the stops of a pod by the lines of its agent's log alone: it shows them to a [promises.Watch].
package fromlog

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/promises"
)

// Slack is how late a process on a busy machine may be.
const Slack = 5 * time.Second

// Pod is what the agent was told by its arguments.
func Pod(args []string) (*promises.Pod, error) {
	policy, err := budget.FromArgs(args)
	if err != nil {
		return nil, err
	}
	flag := func(name, without string) string {
		if text, ok := budget.Flag(args, name); ok {
			return text
		}
		return without
	}
	pod := &promises.Pod{
		Observe: flag("mode", "drain") == "observe", Admin: flag("envoy-admin", "http") != "" && flag("proxy", "") != budget.NoProxy, Log: &promises.LogView{Slack: Slack},
		Grace: policy.Grace, Margin: policy.Margin, Confirm: policy.ConfirmWindow, RestartMax: policy.RestartMax,
		Propagation: policy.Propagation, QuietMin: policy.QuietMin, QuietMax: policy.QuietMax, Settle: policy.Settle,
		DrainMax: policy.DrainMax, AbortAfter: policy.AbortAfter, AcceptLoss: policy.AcceptLoss,
	}
	if text := flag("accept-loss", ""); text != "" {
		if pod.AcceptLoss, err = strconv.ParseFloat(text, 64); err != nil {
			return nil, fmt.Errorf("read agent arguments: --accept-loss=%s is no number", text)
		}
	}
	if text := flag("restart-max", ""); text != "" {
		if pod.RestartMax, err = time.ParseDuration(text); err != nil {
			return nil, fmt.Errorf("read agent arguments: --restart-max=%s is not a duration", text)
		}
	}
	named := func(name string) (set promises.Set) {
		for _, n := range strings.FieldsFunc(flag(name, ""), func(r rune) bool { return r == ',' || r == '+' }) {
			if id := policy.Find(strings.TrimSpace(n)); int(id) < len(policy.Containers) {
				set |= 1 << id
			}
		}
		return set
	}
	outlives, workers := named("outlives-me"), named("workers")
	pod.ExitWith = named("exit-with")
	if pod.Hooks = named("hooks"); pod.Hooks == 0 {
		pod.Hooks = 1<<len(policy.Containers) - 1
	}
	for i, c := range policy.Containers {
		one := promises.Container(c)
		one.Outlives, one.Worker = outlives.Has(i), workers.Has(i)
		pod.Containers = append(pod.Containers, one)
	}
	if len(pod.Containers) > 0 && flag("app-source", "none") != "none" {
		pod.Sources = []int{0} // the log has the sum of all sources
	}
	return pod, nil
}

// Broken returns every promise that the lines of a log show to be broken, with the line.
func Broken(pod *promises.Pod, text string) []string {
	j := judge{pod: pod}
	for line, err := range timeline.Decode(strings.NewReader(text)) {
		switch {
		case err != nil:
			j.say("the log cannot be read: %v", err)
		case line.Event != nil:
			j.event(line.Event)
		case line.Verdict != nil:
			j.verdict(line.Verdict)
		}
	}
	j.decide()
	return j.broken
}

type judge struct {
	pod    *promises.Pod
	watch  promises.Watch
	begin  time.Time
	zero   time.Time // of elapsed_ms
	last   int64     // elapsed_ms of the line before
	seq    int
	broken []string

	begun *timeline.Event // a change of phase, or an answer, whose further answers may come in the next lines: they are one decision
	open  promises.Decision
}

func (j *judge) say(format string, args ...any) {
	j.broken = append(j.broken, fmt.Sprintf(format, args...))
}

// oneMoment is how many milliseconds after a change of phase, or an answer, its answers are written down.
const oneMoment = 20

var (
	became = regexp.MustCompile(`^(\S+) was \w+, is (up|leaving|gone)\b`)
	ended  = regexp.MustCompile(`^(\S+) (?:ended|is gone)$`)
)

// event shows one line: first what came, then what was done about it.
func (j *judge) event(e *timeline.Event) {
	if name, ok := strings.CutPrefix(e.Action, "answer "); ok && j.begun != nil && e.From == j.begun.To && e.ElapsedMS-j.begun.ElapsedMS <= oneMoment {
		j.watch.At(j.when(e).Sub(j.begin))
		j.came(e)
		j.seq, j.open.Answered = e.Seq, j.open.Answered|1<<j.id(name)
		return
	}
	j.decide()
	if e.Seq <= j.seq { // another agent process: it knows nothing of the one before
		*j = judge{pod: j.pod, broken: j.broken}
	}
	j.seq = e.Seq
	if j.begin.IsZero() {
		j.begin = e.Time.Add(-time.Minute)
	}
	j.watch.At(j.when(e).Sub(j.begin))
	j.came(e)
	j.readings(e)
	d := promises.Decision{}
	var known bool
	if d.From, known = promises.PhaseOf(e.From); !known {
		j.say("phase %q is none: %s", e.From, e.Text())
		return
	}
	d.To, _ = promises.PhaseOf(e.To)
	if name, ok := strings.CutPrefix(e.Action, "answer "); ok {
		d.Answered = 1 << j.id(name)
	}
	if action, ok := promises.ActionOf(e.Action); ok && e.Result == "ok" {
		d.Do = action // it was asked for before; what allowed it then still stands
	}
	if e.Score != nil {
		d.Score, d.Scored = *e.Score, true
	}
	if j.begun, j.open = e, d; d.From == d.To && d.Answered == 0 {
		j.decide()
	}
}

// when is the moment that a line tells of. It may have been written later: elapsed_ms is of the decision, time of the line. Within a
// stop elapsed_ms alone counts: a machine's clock may jump.
func (j *judge) when(e *timeline.Event) time.Time {
	elapsed := time.Duration(e.ElapsedMS) * time.Millisecond
	zero, idle := e.Time.Add(-elapsed), e.From == "serving" || e.From == "maintenance"
	switch late := zero.Sub(j.zero); {
	case e.ElapsedMS < j.last, idle && (late > Slack || late < -Slack): // it counts from another moment
		j.zero = zero
	case idle && late < 0: // the line before told its moment too late
		j.watch.Sooner(-late)
		j.zero = zero
	}
	j.last = e.ElapsedMS
	if idle && (strings.HasPrefix(e.Action, "hold ") || e.Reason == "SIGTERM") {
		return j.zero // the first fact of a stop is its T0
	}
	return j.zero.Add(elapsed)
}

// decide judges what was decided last.
func (j *judge) decide() {
	if j.begun == nil {
		return
	}
	e, d := j.begun, j.open
	j.begun = nil
	if why := j.watch.Decided(j.pod, d); why != "" {
		j.say("%s\n\tin %s", why, e.Text())
	}
	if d.Do != 0 {
		j.watch.Acted(d.Do, true)
	}
	if d.From != d.To && d.To == promises.Serving {
		j.watch.Forget(promises.Stranger) // whose answers have no line
	}
}

// came shows what the line says has come.
func (j *judge) came(e *timeline.Event) {
	if name, ok := strings.CutPrefix(e.Action, "hold "); ok {
		j.watch.Called(j.id(name), strings.Contains(e.Reason, "with the token"))
	}
	if e.Reason == "SIGTERM" {
		j.watch.Sigterm(j.pod)
	}
	if strings.Contains(e.Reason, "an operator asked to finish now") {
		j.watch.Finish()
	}
	if m := ended.FindStringSubmatch(e.Reason); m != nil && j.id(m[1]) < promises.Stranger && !j.watch.SeenGone(j.id(m[1])) {
		j.watch.Saw(j.pod, j.id(m[1]), promises.Up, 0)
		j.watch.Saw(j.pod, j.id(m[1]), promises.Gone, 0)
	}
	if m := became.FindStringSubmatch(e.Reason); m != nil {
		live := map[string]promises.Liveness{"up": promises.Up, "leaving": promises.Leaving, "gone": promises.Gone}[m[2]]
		if id := j.id(m[1]); id < promises.Stranger {
			j.watch.Saw(j.pod, id, promises.Up, 0) // it was, or nobody would say so
			j.watch.Saw(j.pod, id, live, 0)
		}
	}
}

func (j *judge) readings(e *timeline.Event) {
	reading := func(n *int64) promises.Reading {
		if n == nil {
			return promises.Reading{}
		}
		return promises.Reading{N: *n, Known: true}
	}
	j.watch.Proxy(reading(e.ProxyInFlight), promises.Reading{}, reading(e.Connections), promises.Reading{}, promises.Reading{})
	j.watch.App(0, reading(e.AppInFlight), false)
}

func (j *judge) id(name string) int {
	for i := range j.pod.Containers {
		if j.pod.Containers[i].Name == name {
			return i
		}
	}
	return promises.Stranger
}

// verdict shows the end of a drain, and checks what only its line tells.
func (j *judge) verdict(v *timeline.Verdict) {
	if j.begin.IsZero() {
		return // the line alone tells nothing
	}
	j.decide()
	j.watch.At(j.zero.Add(time.Duration(v.TotalMS) * time.Millisecond).Sub(j.begin))
	d := j.watch.Ending(v.Outcome)
	if why := j.watch.Decided(j.pod, d); why != "" {
		j.say("%s\n\tin %s", why, v.Text())
	}
	sum := int64(0)
	for _, spent := range v.Phases {
		sum += spent
	}
	if diff := v.TotalMS - sum; v.Outcome != "watchdog" && (diff < -20 || diff > 20) {
		j.say("the phases of the verdict add up to %d ms, total_ms is %d", sum, v.TotalMS)
	}
}
