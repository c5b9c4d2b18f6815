package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

const maxText = 1 << 20 // bytes

// pattern finds numbers in a text: what its groups hold, added up over all matches, less a number.
type pattern struct {
	re   *regexp.Regexp
	less int64
}

func textKind(s string) (kind, error) {
	u, fragment, err := splitURL(s)
	if err != nil {
		return kind{}, err
	}
	find, err := parsePattern(fragment)
	if err != nil {
		return kind{}, err
	}
	p := newPage(u, "text/plain, */*;q=0.1", maxText)
	read := func(ctx context.Context) (n drain.Count, err error) {
		err = p.fetch(ctx, func(b body) error {
			n, err = find.read(b)
			return err
		})
		return n, err
	}
	return kind{read: read, close: p.close, page: p}, nil
}

// lessAtEnd cuts " - 1" off; where it belongs to the expression, write it as "[ ]- 1".
var lessAtEnd = regexp.MustCompile(`(?s)^(.*?) +- *([0-9]{1,15})$`)

func parsePattern(fragment string) (f pattern, err error) {
	text := fragment
	if m := lessAtEnd.FindStringSubmatch(fragment); m != nil {
		text = m[1]
		if f.less, err = strconv.ParseInt(m[2], 10, 64); err != nil {
			return f, err
		}
	}
	f.re, err = regexp.Compile(text)
	switch {
	case err != nil:
		return f, fmt.Errorf("%q is no regular expression: %w", text, err)
	case f.re.NumSubexp() == 0:
		return f, fmt.Errorf(`%q has no group: want a regular expression with the number in parentheses after the #, such as Writing: (\d+)`, text)
	}
	return f, nil
}

func (f *pattern) read(r io.Reader) (drain.Count, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return drain.Count{}, err
	}
	matches := f.re.FindAllSubmatch(text, -1)
	if matches == nil {
		return drain.Count{}, errors.New("nothing on the page matches")
	}
	var total float64
	var found bool
	for _, match := range matches {
		for _, group := range match[1:] {
			if group == nil {
				continue // of another alternative
			}
			v, err := strconv.ParseFloat(string(group), 64)
			if err != nil {
				return drain.Count{}, fmt.Errorf("%.40q is no number", group)
			}
			n, err := toCount(v)
			if err != nil {
				return drain.Count{}, err
			}
			total, found = total+float64(n.N), true
		}
	}
	if !found {
		return drain.Count{}, errors.New("the match has no number in it")
	}
	return difference(total, float64(f.less))
}
