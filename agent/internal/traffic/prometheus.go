package traffic

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

const (
	maxMetrics  = 16 << 20 // bytes of a page with 100,000 series
	maxSelected = 1 << 20  // bytes of the lines that carry the metric's name
	maxClasses  = 32       // more of them tell a person nothing
	maxClass    = 64       // bytes of a class's name
	maxDrift    = time.Second
	metricsType = "text/plain; version=0.0.4"
)

func prometheusKind(s string) (kind, error) {
	u, fragment, err := splitURL(s)
	if err != nil {
		return kind{}, err
	}
	e, err := parseExpression(fragment)
	if err != nil {
		return kind{}, err
	}
	p := newPage(u, metricsType, maxMetrics)
	var last map[string]int64
	read := func(ctx context.Context) (n drain.Count, err error) {
		last = nil
		err = p.fetch(ctx, func(b body) error {
			n, last, err = e.read(b)
			return err
		})
		return n, err
	}
	return kind{read: read, close: p.close, page: p, classes: func() map[string]int64 { return last }}, nil
}

func parseText(r io.Reader) (map[string]*dto.MetricFamily, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(r)
}

// read works out the expression on a page in the Prometheus text format or OpenMetrics, in all and, where nothing is subtracted, by
// class.
func (e *expression) read(b body) (drain.Count, map[string]int64, error) {
	if strings.Contains(b.kind, "protobuf") {
		return drain.Count{}, nil, fmt.Errorf("answered %s, want text", b.kind)
	}
	c := clipping{e: e, open: strings.HasPrefix(b.kind, "application/openmetrics-text"), declared: map[string]string{}}
	if err := c.cut(b); err != nil {
		return drain.Count{}, nil, err
	}
	if c.open && !c.ended {
		return drain.Count{}, nil, errors.New("is cut off: OpenMetrics ends with # EOF")
	}
	families, err := parseText(bytes.NewReader(c.kept))
	if err != nil {
		return drain.Count{}, nil, err
	}
	found := excerpt{families: families, declared: c.declared, framed: b.framed || c.ended}
	total, err := found.sum(&e.plus)
	if err != nil {
		return drain.Count{}, nil, err
	}
	if e.minus == nil && e.less == 0 {
		n, err := toCount(total)
		return n, found.classes(&e.plus), err
	}
	less := float64(e.less)
	if e.minus != nil {
		if less, err = found.sum(e.minus); err != nil {
			return drain.Count{}, nil, err
		}
	}
	n, err := difference(total, less)
	return n, nil, err
}

// difference is a - b. Less than nothing is an error: b does not belong to a.
func difference(a, b float64) (drain.Count, error) {
	if a < b {
		return drain.Count{}, errors.New("less than nothing is left: what is subtracted does not belong to it")
	}
	return toCount(a - b)
}

// excerpt is the part of a page that may be selected.
type excerpt struct {
	families map[string]*dto.MetricFamily
	declared map[string]string // type by family, "" for one that has none
	framed   bool
}

// sum adds up the series that the selector matches. A family that is declared, or there with other series, has none of them: that is 0.
// A family that is not there, or a label that none of its series has, is an error: the selector may be wrong.
func (p *excerpt) sum(s *selector) (total float64, err error) {
	there, matched := false, false
	for name, family := range p.families {
		if !s.name.matches(name) {
			continue
		}
		there = true
		for _, m := range family.Metric {
			if !s.matches(m) {
				continue
			}
			matched = true
			if err := checkTime(m); err != nil {
				return 0, err
			}
			n, err := toCount(m.GetUntyped().GetValue())
			if err != nil {
				return 0, err
			}
			total += float64(n.N)
		}
	}
	switch {
	case matched:
		return total, nil
	case there:
		return 0, p.checkLabels(s)
	case !p.declares(s):
		return 0, fmt.Errorf("no such metric on the page: %s", s.text)
	case !p.framed:
		return 0, fmt.Errorf("%s has no series, and the answer no length: it may have been cut off", s.text)
	}
	return 0, nil
}

// checkLabels says whether each label that must be there is on some series of the family.
func (p *excerpt) checkLabels(s *selector) error {
	for i := range s.labels {
		wanted := &s.labels[i]
		found := wanted.matches("") // nobody need have it
		for name, family := range p.families {
			for j := 0; j < len(family.Metric) && !found && s.name.matches(name); j++ {
				_, found = labelOf(family.Metric[j], wanted.label)
			}
		}
		if !found {
			return fmt.Errorf("no such metric on the page: no series has the label %s of %s", wanted.label, s.text)
		}
	}
	return nil
}

// declares says whether a # TYPE or # HELP line tells of the selected family.
func (p *excerpt) declares(s *selector) bool {
	for name, kind := range p.declared {
		for _, suffix := range suffixes(kind) {
			if s.name.matches(name + suffix) {
				return true
			}
		}
	}
	return false
}

// suffixes are what a type's samples have behind the family's name.
func suffixes(kind string) []string {
	switch kind {
	case "counter":
		return []string{"", "_total"}
	case "histogram":
		return []string{"", "_count", "_sum", "_bucket"}
	case "gaugehistogram":
		return []string{"", "_gcount", "_gsum", "_bucket"}
	case "summary":
		return []string{"", "_count", "_sum"}
	}
	return []string{""}
}

// checkTime refuses a sample that says itself that it is from another time: nobody knows what is in flight now.
func checkTime(m *dto.Metric) error {
	if m.TimestampMs == nil {
		return nil
	}
	if time.Since(time.UnixMilli(m.GetTimestampMs())).Abs() > maxDrift {
		return fmt.Errorf("its sample is from more than %v ago, or ahead, by its own timestamp", maxDrift)
	}
	return nil
}

// classes counts by the values of the labels that the selector leaves open.
func (p *excerpt) classes(s *selector) map[string]int64 {
	classes := map[string]int64{}
	for name, family := range p.families {
		for _, m := range family.Metric {
			if n := int64(m.GetUntyped().GetValue()); n > 0 && s.name.matches(name) && s.matches(m) {
				if class := s.class(m); class != "" {
					classes[class] += n
				}
			}
		}
	}
	if len(classes) > maxClasses {
		return nil
	}
	return classes
}

// class names a series by the values of the labels that the selector leaves open, in the page's order.
func (s *selector) class(m *dto.Metric) string {
	var values []string
	for _, label := range m.Label {
		var asked bool
		for i := range s.labels {
			asked = asked || s.labels[i].label == label.GetName() && s.labels[i].re == nil && !s.labels[i].not
		}
		if !asked && label.GetValue() != "" {
			values = append(values, label.GetValue())
		}
	}
	if name := strings.Join(values, " "); len(name) <= maxClass {
		return name
	}
	return ""
}

// clipping keeps the lines of a page that may belong to the expression, so that a page of megabytes costs the parser nothing.
type clipping struct {
	e        *expression
	open     bool              // OpenMetrics
	declared map[string]string // type by family, of what was declared
	kept     []byte            // samples. Without its type each goes by its own name, a histogram's _count too
	ended    bool              // with # EOF
}

func (c *clipping) cut(page io.Reader) error {
	r := bufio.NewReader(page)
	wanted := false // the line that continues
	begin := 0      // of the newest line in kept
	for start := true; ; {
		part, err := r.ReadSlice('\n')
		if start {
			c.comment(part)
			wanted, begin = c.begins(part), len(c.kept)
		}
		if wanted {
			c.kept = append(c.kept, part...)
			if c.open && (err == nil || err == io.EOF) {
				c.kept = classic(c.kept, begin)
			}
		}
		switch {
		case len(c.kept) > maxSelected:
			return errTooLarge
		case err == io.EOF:
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
		start = err == nil
	}
}

// comment takes note of what a line declares.
func (c *clipping) comment(line []byte) {
	if len(line) == 0 || line[0] != '#' {
		return
	}
	f := strings.Fields(string(line[:min(len(line), 512)]))
	switch {
	case len(f) == 2 && f[1] == "EOF":
		c.ended = true
	case len(f) < 3 || !bytes.HasSuffix(line, []byte("\n")):
	case f[1] == "HELP" && c.declared[f[2]] == "" && len(c.declared) < 1<<14:
		c.declared[f[2]] = ""
	case f[1] == "TYPE" && len(f) == 4 && len(c.declared) < 1<<14:
		c.declared[f[2]] = f[3]
	}
}

// begins says whether a line's first bytes are a wanted name, or a brace: a name in quotes may follow it.
func (c *clipping) begins(line []byte) bool {
	line = bytes.TrimLeft(line, " \t")
	if bytes.HasPrefix(line, []byte("{")) {
		return true
	}
	end := bytes.IndexAny(line, "{ \t\n")
	if end <= 0 || line[0] == '#' {
		return false
	}
	name := string(line[:end])
	return c.e.plus.name.matches(name) || c.e.minus != nil && c.e.minus.name.matches(name)
}

// classic turns the line from begin on from OpenMetrics into the older format: without an exemplar, the timestamp in milliseconds.
func classic(text []byte, begin int) []byte {
	line := string(text[begin:])
	end, quoted := 0, false
	if brace := strings.IndexByte(line, '{'); brace >= 0 && brace < strings.IndexAny(line+" ", " \t") || brace == 0 {
		for end = brace; end < len(line); end++ {
			switch {
			case line[end] == '\\' && quoted:
				end++
			case line[end] == '"':
				quoted = !quoted
			}
			if line[min(end, len(line)-1)] == '}' && !quoted {
				end++
				break
			}
		}
	} else {
		end = strings.IndexAny(line+" ", " \t")
	}
	end = min(end, len(line))
	fields := strings.Fields(line[end:])
	if len(fields) == 0 {
		return text
	}
	out := line[:end] + " " + fields[0]
	if len(fields) > 1 && fields[1] != "#" {
		seconds, err := strconv.ParseFloat(fields[1], 64)
		if err != nil || math.Abs(seconds) > 1e12 {
			return text // not to be understood: the parser says so
		}
		out += " " + strconv.FormatInt(int64(seconds*1000), 10)
	}
	if strings.HasSuffix(line, "\n") {
		out += "\n"
	}
	return append(text[:begin], out...)
}
