package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// enough is the share of held-out stops that must be inside.
const enough = 0.9

// cell is what advise said of stops of one kind under one setting, and what those came to.
type cell struct {
	kind, setting string
	said          whatIf
	n, took, lost int // held-out stops; of them: whose time, whose losses are inside
	both          int
	control       int        // both, of the bounds for the setting that was recorded: what would be inside if settings changed nothing
	measured      [2][]int64 // milliseconds, requests
	outside       []stop
}

// promised is a grace period that advise named, and how many held-out stops it held.
type promised struct {
	who     string
	grace   grace
	n, held int
}

// judgement is all of it.
type judgement struct {
	read    map[string]advised // by kind
	cells   []cell
	graces  []promised
	cut     *advised // of the recordings that the deadline cut; nil: there are none
	again   []cell   // these, held against stops that had the time
	said    string   // what advise prints of them
	endless int      // of them, those of which no end can be known
}

// judge asks advise about the recorded stops and holds the others against what it says.
func judge(ctx context.Context, a *adviser, stops []stop) (j judgement, err error) {
	j.read = map[string]advised{}
	for _, kind := range kinds {
		read := of(stops, kind, recorded)
		if len(read) == 0 {
			continue
		}
		said, err := a.of(ctx, read, recordedGrace, tries...)
		if err != nil {
			return j, err
		}
		j.read[kind] = said
		for _, row := range said.rows() {
			j.cells = append(j.cells, compare(kind, row, said.WhatIf[0], of(stops, kind, unseen)))
		}
	}
	if err := j.judgeGraces(ctx, a, stops); err != nil {
		return j, err
	}
	return j, j.judgeCut(ctx, a, stops)
}

// compare counts which of the stops under that setting are inside.
func compare(kind string, said, base whatIf, stops []stop) cell {
	c := cell{kind: kind, setting: said.Settings, said: said}
	for _, s := range stops {
		if s.Setting != said.Settings {
			continue
		}
		took, lost := said.Took.hold(s.TookMS), said.Lost.hold(int64(s.Lost))
		c.n++
		c.took += count(took)
		c.lost += count(lost)
		c.both += count(took && lost)
		c.control += count(base.Took.hold(s.TookMS) && base.Lost.hold(int64(s.Lost)))
		c.measured[0], c.measured[1] = append(c.measured[0], s.TookMS), append(c.measured[1], int64(s.Lost))
		if !took || !lost {
			c.outside = append(c.outside, s)
		}
	}
	slices.Sort(c.measured[0])
	slices.Sort(c.measured[1])
	return c
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// judgeGraces holds the grace periods that advise is sure of against held-out stops that have one of them.
func (j *judgement) judgeGraces(ctx context.Context, a *adviser, stops []stop) error {
	read, held := of(stops, "", recorded), of(stops, "", graced)
	said, err := a.of(ctx, read, recordedGrace)
	if err != nil {
		return err
	}
	for _, g := range said.Grace {
		p := promised{who: "all kinds", grace: g}
		for _, s := range held {
			if g.Seconds == nil || s.Setting != graceOf(time.Duration(*g.Seconds)*time.Second) {
				continue
			}
			p.n++
			p.held += count(s.inTime())
		}
		j.graces = append(j.graces, p)
	}
	return nil
}

// judgeCut asks about recordings that the deadline cut: how long they would have taken advise knows as at least.
func (j *judgement) judgeCut(ctx context.Context, a *adviser, stops []stop) error {
	read := of(stops, "", cut)
	if len(read) == 0 {
		return nil
	}
	_, had := args(shortGrace)
	said, err := a.of(ctx, read, had, graceOf(recordedGrace))
	if err != nil {
		return err
	}
	j.cut, j.endless = &said, endless(read)
	row := said.WhatIf[len(said.WhatIf)-1]
	row.Settings = asRecorded // all others, whatever they are for there, which had that grace period
	j.again = append(j.again, compare("long", row, row, append(of(stops, "long", recorded), of(stops, "long", unseen)...)))
	text, err := a.ask(ctx, read, "table", "--recorded=grace-period="+had.String(), "--try="+graceOf(recordedGrace))
	j.said = string(text)
	return err
}

// endless counts the stops that the deadline cut while something was in flight or clients were likely to come back. One that it cut while
// zero was to hold for the settle time, 200 ms, would have ended then: a replay may say so.
func endless(stops []stop) (n int) {
	for _, s := range stops {
		var v struct{ Phases map[string]int64 }
		_ = json.Unmarshal(s.Verdict, &v) // as it was read when the stop was measured
		_, settled := v.Phases["settling"]
		n += count(s.Outcome == "deadline" && !settled)
	}
	return n
}

func graceOf(d time.Duration) string { return "grace-period=" + d.String() }

// total adds up the cells of a setting; all of them for the empty one.
func (j *judgement) total(setting string) (sum cell) {
	sum.setting = setting
	for _, c := range j.cells {
		if setting == "" || c.setting == setting {
			sum.n, sum.took, sum.lost, sum.both, sum.control = sum.n+c.n, sum.took+c.took, sum.lost+c.lost, sum.both+c.both, sum.control+c.control
		}
	}
	return sum
}

func (c cell) holds() bool {
	return c.n > 0 && float64(c.took) >= enough*float64(c.n) && float64(c.lost) >= enough*float64(c.n)
}

func (c cell) String() string {
	return fmt.Sprintf("%s: of %d held-out stops %d times and %d losses are inside, %d of both; %d of both are inside what was said of the recorded setting", c.setting, c.n, c.took, c.lost, c.both, c.control)
}

// wrong says what does not hold.
func (j *judgement) wrong() error {
	var errs []error
	for _, setting := range settings() {
		if sum := j.total(setting); !sum.holds() {
			errs = append(errs, errors.New(sum.String()))
		}
	}
	for _, p := range j.graces {
		switch {
		case p.grace.Sure && p.n == 0:
			errs = append(errs, fmt.Errorf("%s: no stop had the grace period of %d s that is named: make advice makes some", p.who, *p.grace.Seconds))
		case p.grace.Sure && tooFew(p.held, p.n, p.grace.Share):
			errs = append(errs, fmt.Errorf("%s: a grace period of %d s holds %d of %d", p.who, *p.grace.Seconds, p.held, p.n))
		}
	}
	return errors.Join(append(errs, j.wrongOfCut())...)
}

// tooFew reports whether so few of n would be chance in less than one of a hundred cases, if each were held with the share.
func tooFew(held, n int, share float64) bool {
	chance := 0.0
	for k := range held + 1 {
		all, _ := math.Lgamma(float64(n + 1))
		these, _ := math.Lgamma(float64(k + 1))
		others, _ := math.Lgamma(float64(n - k + 1))
		chance += math.Exp(all - these - others + float64(k)*math.Log(share) + float64(n-k)*math.Log1p(-share))
	}
	return chance < 0.01
}

// wrongOfCut says what advise does not own up to: a stop that was cut has no end.
func (j *judgement) wrongOfCut() error {
	if j.cut == nil {
		return nil
	}
	row := j.again[0].said
	switch {
	case j.cut.Replays.Censored == 0 || j.endless == 0:
		return errors.New("no recording was cut by its deadline: nothing is shown of those")
	case row.Open < j.endless || row.Took.High != nil:
		return fmt.Errorf("of %d recordings nobody knows the end; under a longer grace period advise says so of %d, and their bounds are %v", j.endless, row.Open, row.Took)
	case !strings.Contains(j.said, "known only as at least"):
		return fmt.Errorf("advise does not say that recordings were cut:\n%s", j.said)
	case float64(j.again[0].took) < enough*float64(j.again[0].n):
		return fmt.Errorf("of recordings that were cut: %v", j.again[0])
	}
	return nil
}
