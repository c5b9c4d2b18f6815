package probes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
)

// Question is one of the four things a process is asked about itself. Its text is the gRPC service name.
type Question string

// The four questions.
const (
	Startup   Question = "startup"
	Liveness  Question = "liveness"
	Readiness Question = "readiness"
	Synthetic Question = "synthetic-readiness"
)

// Questions returns the four questions.
func Questions() []Question { return []Question{Startup, Liveness, Readiness, Synthetic} }

// Config is the checks of each question. A question without checks is answered yes.
type Config struct {
	Startup, Liveness, Readiness, Synthetic []Check
}

// names of the results that are not a Check's; readiness lists them before its checks.
const (
	ownerName   = "owner"   // what the owner said with FailReadiness
	startupName = "startup" // listed only while it fails
)

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// Registry answers the questions. All methods are safe for concurrent use.
type Registry struct {
	checks map[Question][]*check
	cancel context.CancelFunc
	closed <-chan struct{}
	loops  sync.WaitGroup

	mu      sync.Mutex
	unready error         // the owner's reason, nil when ready
	change  chan struct{} // closed and replaced when an answer may have changed
	watches int
}

// Result is what one check says.
type Result struct {
	Name   string
	Err    error // nil when all is well
	Counts bool  // the failure fails the question
}

// Report answers one question.
type Report struct {
	Question Question
	OK       bool
	Results  []Result // in the order of the configuration
}

// New checks the configuration, starts the background checks and returns the registry, or an error that lists everything
// that is wrong with the configuration. Close ends it.
func New(cfg Config) (*Registry, error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Registry{checks: map[Question][]*check{}, cancel: cancel, closed: ctx.Done(), change: make(chan struct{})}
	var problems []error
	for question, list := range map[Question][]Check{
		Startup: cfg.Startup, Liveness: cfg.Liveness, Readiness: cfg.Readiness, Synthetic: cfg.Synthetic,
	} {
		problems = append(problems, r.add(question, list)...)
	}
	if err := errors.Join(problems...); err != nil {
		cancel()
		return nil, err
	}
	for _, list := range r.checks {
		for _, c := range list {
			if c.Every > 0 {
				r.loops.Go(func() { c.loop(ctx) })
			}
		}
	}
	return r, nil
}

func (r *Registry) add(question Question, list []Check) (problems []error) {
	seen := map[string]bool{}
	if question == Readiness {
		seen[ownerName], seen[startupName] = true, true
	}
	for _, c := range list {
		for _, problem := range c.problems(question, seen[c.Name]) {
			problems = append(problems, fmt.Errorf("%s check %q: %s", question, c.Name, problem))
		}
		seen[c.Name] = true
		c.Timeout = cmp.Or(c.Timeout, c.Every, DefaultTimeout)
		state := &check{Check: c, latch: question == Startup, changed: r.notify}
		if c.Every > 0 {
			state.last = errPending
		}
		r.checks[question] = append(r.checks[question], state)
	}
	return problems
}

func (c Check) problems(question Question, taken bool) (list []string) {
	if !validName.MatchString(c.Name) {
		list = append(list, "a name has only letters, digits, '-', '_' and '.'")
	}
	if taken {
		list = append(list, "the name is taken")
	}
	if c.Run == nil {
		list = append(list, "Run is nil")
	}
	if c.Timeout < 0 || c.Every < 0 {
		list = append(list, "Timeout and Every must not be negative")
	}
	if c.Policy > Shared {
		list = append(list, "Policy is none of Required, Degraded and Shared")
	}
	if question == Liveness && c.Policy == Shared {
		list = append(list, "a restart cures no shared dependency; ask for it in readiness")
	}
	return list
}

// Close ends the background checks and the gRPC watches and waits for them. The last results stay, questions are still answered.
func (r *Registry) Close() {
	r.cancel()
	r.loops.Wait()
}

// FailReadiness makes readiness fail with the given reason until RestoreReadiness, whatever the checks say.
// The reason is shown to whoever asks.
func (r *Registry) FailReadiness(reason string) { r.setUnready(errors.New(reason)) }

// RestoreReadiness leaves readiness to the checks again.
func (r *Registry) RestoreReadiness() { r.setUnready(nil) }

func (r *Registry) setUnready(err error) {
	r.mu.Lock()
	r.unready = err
	r.mu.Unlock()
	r.notify()
}

// notify wakes the watches.
func (r *Registry) notify() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.change)
	r.change = make(chan struct{})
}

func (r *Registry) changes() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.change
}

// Ask answers a question. It takes as long as its slowest check without Every, at most that check's Timeout, or until ctx ends.
func (r *Registry) Ask(ctx context.Context, question Question) Report {
	report := Report{Question: question, OK: true}
	if question == Readiness {
		report.Results = r.beforeReadiness(ctx)
	}
	report.Results = append(report.Results, askAll(ctx, r.checks[question])...)
	for _, result := range report.Results {
		if result.Err != nil && result.Counts {
			report.OK = false
		}
	}
	return report
}

// AskOne runs one check of a question by its name; ok is false when there is none. Its policy does not matter here: the
// report fails when the check does.
func (r *Registry) AskOne(ctx context.Context, question Question, name string) (report Report, ok bool) {
	for _, c := range r.checks[question] {
		if c.Name == name {
			err := c.result(ctx)
			return Report{Question: question, OK: err == nil, Results: []Result{{Name: name, Err: err, Counts: true}}}, true
		}
	}
	return Report{}, false
}

// beforeReadiness is what makes a replica unready though its readiness checks pass.
func (r *Registry) beforeReadiness(ctx context.Context) []Result {
	r.mu.Lock()
	results := []Result{{Name: ownerName, Err: r.unready, Counts: true}}
	r.mu.Unlock()
	if !r.Ask(ctx, Startup).OK {
		results = append(results, Result{Name: startupName, Err: errors.New("startup checks have not passed yet"), Counts: true})
	}
	return results
}

// askAll asks all checks at the same time.
func askAll(ctx context.Context, checks []*check) []Result {
	results := make([]Result, len(checks))
	var asked sync.WaitGroup
	for i, c := range checks {
		asked.Go(func() {
			counts := c.counts() // before the run: a Shared check that passes now has nothing to count
			results[i] = Result{Name: c.Name, Err: c.result(ctx), Counts: counts}
		})
	}
	asked.Wait()
	return results
}
