package envoy

import (
	"regexp"
	"strings"
)

// statsMatcher is the bootstrap's stats_matcher. Envoy makes some statistics only when they are needed first: whether one that is not there
// is hidden, or was never needed and is zero, this alone tells.
type statsMatcher struct {
	RejectAll bool         `json:"reject_all"`
	Exclusion *patternList `json:"exclusion_list"`
	Inclusion *patternList `json:"inclusion_list"`
}

type patternList struct {
	Patterns []statsPattern `json:"patterns"`
}

type statsPattern struct {
	Exact      *string `json:"exact"`
	Prefix     *string `json:"prefix"`
	Suffix     *string `json:"suffix"`
	Contains   *string `json:"contains"`
	IgnoreCase bool    `json:"ignore_case"`
	Regex      *struct {
		Text string `json:"regex"`
	} `json:"safe_regex"`
}

// shows reports whether a statistic is shown for sure; nil is the matcher of a bootstrap that has none.
func (m *statsMatcher) shows(name string) bool {
	switch {
	case m == nil:
		return true
	case m.Inclusion != nil:
		found, _ := m.Inclusion.find(name)
		return found
	case m.Exclusion != nil:
		found, certain := m.Exclusion.find(name)
		return !found && certain
	}
	return !m.RejectAll
}

// find reports whether a pattern matches, and whether none of those that do not could be understood wrongly.
func (l *patternList) find(name string) (found, certain bool) {
	certain = true
	for _, p := range l.Patterns {
		matches, known := p.match(name)
		found, certain = found || matches, certain && known
	}
	return found, certain
}

func (p *statsPattern) match(name string) (matches, known bool) {
	fold := func(s string) string {
		if p.IgnoreCase {
			return strings.ToLower(s)
		}
		return s
	}
	name = fold(name)
	switch {
	case p.Exact != nil:
		return name == fold(*p.Exact), true
	case p.Prefix != nil:
		return strings.HasPrefix(name, fold(*p.Prefix)), true
	case p.Suffix != nil:
		return strings.HasSuffix(name, fold(*p.Suffix)), true
	case p.Contains != nil:
		return strings.Contains(name, fold(*p.Contains)), true
	case p.Regex != nil:
		whole, err := regexp.Compile("^(?:" + p.Regex.Text + ")$")
		return err == nil && whole.MatchString(name), err == nil
	}
	return false, false
}
