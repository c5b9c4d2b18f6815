package traffic

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// nameLabel is the label that holds a metric's name.
const nameLabel = "__name__"

// matcher is one of PromQL's four: = != =~ !~. A label that a series does not have is empty.
type matcher struct {
	label string
	value string
	re    *regexp.Regexp // of =~ and !~, for the whole value
	not   bool
}

func (m *matcher) matches(value string) bool {
	if m.re != nil {
		return m.re.MatchString(value) != m.not
	}
	return (value == m.value) != m.not
}

// selector picks series: the name must match, and each label.
type selector struct {
	text   string
	name   matcher
	labels []matcher
}

// matches says whether a family's series is selected.
func (s *selector) matches(m *dto.Metric) bool {
	for i := range s.labels {
		value, _ := labelOf(m, s.labels[i].label)
		if !s.labels[i].matches(value) {
			return false
		}
	}
	return true
}

func labelOf(m *dto.Metric, name string) (value string, ok bool) {
	for _, label := range m.Label {
		if label.GetName() == name {
			return label.GetValue(), true
		}
	}
	return "", false
}

// expression is what stands behind the #: a selector, less another one or less a number.
type expression struct {
	plus  selector
	minus *selector
	less  int64
}

// parseExpression reads SELECTOR, SELECTOR - SELECTOR or SELECTOR - NUMBER.
func parseExpression(s string) (e expression, err error) {
	p := &scanner{rest: s}
	e.plus, err = p.selector()
	p.blanks()
	if err == nil && p.take("-") {
		p.blanks()
		if n, numeric := strconv.ParseInt(strings.TrimSpace(p.rest), 10, 53); numeric == nil && n >= 0 {
			e.less, p.rest = n, ""
		} else {
			var minus selector
			minus, err = p.selector()
			e.minus = &minus
		}
		p.blanks()
	}
	if err == nil && p.rest != "" {
		err = fmt.Errorf("%q follows it", p.rest)
	}
	if err != nil {
		return expression{}, fmt.Errorf(`%q is no metric: %w; want name{label="value"} after the #, with = != =~ or !~, and at most one - SELECTOR or - NUMBER`, s, err)
	}
	return e, nil
}

// scanner reads selectors, from the left.
type scanner struct{ rest string }

func (p *scanner) blanks() { p.rest = strings.TrimLeft(p.rest, " \t") }

func (p *scanner) take(what string) (ok bool) {
	p.rest, ok = strings.CutPrefix(p.rest, what)
	return ok
}

func letter(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// word reads a name as it stands without quotes; that of a metric may have colons.
func (p *scanner) word(colons bool) string {
	n := 0
	for n < len(p.rest) {
		c := p.rest[n]
		if !letter(c) && (!colons || c != ':') && (n == 0 || c < '0' || c > '9') {
			break
		}
		n++
	}
	word := p.rest[:n]
	p.rest = p.rest[n:]
	return word
}

// text reads a string in quotes, as PromQL has them: "", ” or “.
func (p *scanner) text() (string, error) {
	if strings.HasPrefix(p.rest, "'") {
		return p.single()
	}
	quoted, err := strconv.QuotedPrefix(p.rest)
	if err != nil {
		return "", fmt.Errorf("no value in quotes at %q", p.rest)
	}
	p.rest = p.rest[len(quoted):]
	return strconv.Unquote(quoted)
}

func (p *scanner) single() (string, error) {
	for end := 1; end < len(p.rest); end++ {
		switch p.rest[end] {
		case '\\':
			end++
		case '\'':
			inner := strings.ReplaceAll(strings.ReplaceAll(p.rest[1:end], `\'`, `'`), `"`, `\"`)
			p.rest = p.rest[end+1:]
			return strconv.Unquote(`"` + inner + `"`)
		}
	}
	return "", fmt.Errorf("a quote that does not end at %q", p.rest)
}

// selector reads name, name{…} or {…}.
func (p *scanner) selector() (s selector, err error) {
	p.blanks()
	whole := p.rest
	s.name = matcher{label: nameLabel, value: p.word(true)}
	p.blanks()
	if p.take("{") {
		err = p.matchers(&s)
	}
	if err == nil && s.name.value == "" && s.name.re == nil {
		err = fmt.Errorf("no name in it")
	}
	s.text = strings.TrimSpace(strings.TrimSuffix(whole, p.rest))
	return s, err
}

func (p *scanner) matchers(s *selector) error {
	for {
		p.blanks()
		if p.take("}") {
			return nil
		}
		name := p.word(false)
		quoted := name == ""
		if quoted {
			var err error
			if name, err = p.text(); err != nil {
				return err
			}
		}
		p.blanks()
		if quoted && (strings.HasPrefix(p.rest, ",") || strings.HasPrefix(p.rest, "}")) {
			if s.name.value != "" || s.name.re != nil {
				return fmt.Errorf("two names in it")
			}
			s.name.value = name
		} else if err := p.matcher(s, name); err != nil {
			return err
		}
		p.blanks()
		if !p.take(",") && !strings.HasPrefix(p.rest, "}") {
			return fmt.Errorf("neither a comma nor } at %q", p.rest)
		}
	}
}

func (p *scanner) matcher(s *selector, label string) error {
	m := matcher{label: label}
	var pattern bool
	switch {
	case p.take("=~"):
		pattern = true
	case p.take("!~"):
		pattern, m.not = true, true
	case p.take("!="):
		m.not = true
	case p.take("="):
	default:
		return fmt.Errorf("none of = != =~ !~ at %q", p.rest)
	}
	p.blanks()
	var err error
	if m.value, err = p.text(); err != nil {
		return err
	}
	if pattern {
		if m.re, err = regexp.Compile("^(?s:" + m.value + ")$"); err != nil {
			return fmt.Errorf("%q is no regular expression", m.value)
		}
	}
	if label != nameLabel {
		s.labels = append(s.labels, m)
		return nil
	}
	if m.not || s.name.value != "" || s.name.re != nil {
		return fmt.Errorf("two names in it, or none")
	}
	s.name = m
	return nil
}
