package traffic

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

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
	metricsType = "text/plain; version=0.0.4"
)

// selector picks series: the name must be equal, and each label given must be there with that value.
type selector struct {
	metric string
	labels []*dto.LabelPair
}

func prometheusKind(s string) (kind, error) {
	raw, fragment, err := splitURL(s)
	if err != nil {
		return kind{}, err
	}
	sel, err := parseSelector(fragment)
	if err != nil {
		return kind{}, err
	}
	p := newPage(raw, metricsType, maxMetrics)
	var last map[string]int64
	read := func(ctx context.Context) (n drain.Count, err error) {
		last = nil
		err = p.fetch(ctx, func(body io.Reader) error {
			n, last, err = sel.sum(body)
			return err
		})
		return n, err
	}
	return kind{read: read, close: p.close, classes: func() map[string]int64 { return last }}, nil
}

// parseSelector reads metric or metric{label="value",…}: a line of the text format without its number.
func parseSelector(s string) (selector, error) {
	families, err := parseText(bytes.NewReader([]byte(s + " 0\n")))
	if err == nil && len(families) == 1 {
		for name, f := range families {
			if len(f.Metric) == 1 && f.Metric[0].TimestampMs == nil {
				return selector{metric: name, labels: f.Metric[0].Label}, nil
			}
		}
	}
	return selector{}, fmt.Errorf(`%q is no metric: want name or name{label="value"} after the #`, s)
}

func parseText(r io.Reader) (map[string]*dto.MetricFamily, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(r)
}

// sum adds up the selected series of a page in the Prometheus text format, in all and by class. No such series is an error.
func (s selector) sum(page io.Reader) (drain.Count, map[string]int64, error) {
	lines, err := s.lines(page)
	if err != nil {
		return drain.Count{}, nil, err
	}
	families, err := parseText(bytes.NewReader(lines))
	if err != nil {
		return drain.Count{}, nil, err
	}
	var total float64
	var found bool
	classes := map[string]int64{}
	for _, m := range families[s.metric].GetMetric() {
		if !s.matches(m) {
			continue
		}
		n, err := toCount(m.GetUntyped().GetValue())
		if err != nil {
			return drain.Count{}, nil, err
		}
		if class := s.class(m); class != "" && n.N > 0 {
			classes[class] += n.N
		}
		total, found = total+m.GetUntyped().GetValue(), true
	}
	if !found {
		return drain.Count{}, nil, errors.New("no such metric on the page")
	}
	if len(classes) > maxClasses {
		classes = nil
	}
	n, err := toCount(total)
	return n, classes, err
}

// class names a series by the values of the labels that the selector leaves open, in the page's order.
func (s selector) class(m *dto.Metric) string {
	var values []string
	for _, label := range m.Label {
		asked := slices.ContainsFunc(s.labels, func(l *dto.LabelPair) bool { return l.GetName() == label.GetName() })
		if !asked && label.GetValue() != "" {
			values = append(values, label.GetValue())
		}
	}
	if name := strings.Join(values, " "); len(name) <= maxClass {
		return name
	}
	return ""
}

func (s selector) matches(m *dto.Metric) bool {
	for _, want := range s.labels {
		var ok bool
		for _, have := range m.Label {
			ok = ok || have.GetName() == want.GetName() && have.GetValue() == want.GetValue()
		}
		if !ok {
			return false
		}
	}
	return true
}

// lines returns the lines of a page that may belong to the metric, so that a page of megabytes costs the parser nothing.
// Comments are left out: without its type every sample, a histogram's _count too, goes by its own name.
func (s selector) lines(page io.Reader) ([]byte, error) {
	r := bufio.NewReader(page)
	var kept []byte
	var wanted bool // the line that continues
	for start := true; ; {
		part, err := r.ReadSlice('\n')
		if start {
			wanted = s.begins(part)
		}
		if wanted {
			kept = append(kept, part...)
		}
		switch {
		case len(kept) > maxSelected:
			return nil, errTooLarge
		case err == io.EOF:
			return kept, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
		start = err == nil
	}
}

// begins says whether a line's first bytes are the metric's name, or a brace: a name in quotes may follow it.
func (s selector) begins(line []byte) bool {
	line = bytes.TrimLeft(line, " \t")
	if bytes.HasPrefix(line, []byte("{")) {
		return true
	}
	rest, ok := bytes.CutPrefix(line, []byte(s.metric))
	return ok && len(rest) > 0 && bytes.IndexByte([]byte("{ \t\n"), rest[0]) >= 0
}
