package envoy

import (
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// maxQuery keeps our request line far below the 60 KiB of headers that Envoy takes.
const maxQuery = 8 << 10

// readStats reads /stats?format=json and returns the numbers among wanted. A wanted name that is missing was not printed: hidden, or never written.
func readStats(body io.Reader, wanted []string) (map[string]int64, error) {
	found := make(map[string]int64, len(wanted))
	s := newStream(body, maxValue)
	one := func() error {
		var stat struct {
			Name  string         `json:"name"`
			Value jsontext.Value `json:"value"`
		}
		if s.PeekKind() != '{' {
			return s.skip()
		}
		if err := s.value(&stat); err != nil {
			return err
		}
		name := statName(stat.Name)
		if !slices.Contains(wanted, name) { // other stats, and the last element: histograms, without a name
			return nil
		}
		n, err := strconv.ParseInt(string(stat.Value), 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("stat %s is %.40s", stat.Name, stat.Value)
		}
		found[name] = n
		return nil
	}
	seen := false
	err := s.object(func(name string) error {
		if name != "stats" {
			return s.skip()
		}
		seen = true
		return s.array(one)
	})
	if err == nil && !seen {
		err = fmt.Errorf("no stats in the reply")
	}
	if err != nil {
		return nil, fmt.Errorf("read stats: %w", err)
	}
	return found, s.end()
}

// statsPath asks for exactly these stats of one type, "Gauges" or "Counters". With usedOnly Envoy skips those never written, which is far cheaper for it.
func statsPath(kind string, usedOnly bool, names []string) string {
	path := "/stats?format=json&type=" + kind
	if usedOnly {
		path += "&usedonly"
	}
	return path + filter(names, "^(http|listener|server)\\.")
}

func clustersPath(names []string) string { return "/clusters?format=json" + filter(names, "") }

// filter is Envoy's RE2 filter for exactly these names; where that would be too long the coarse one. Replies are filtered on our side as well: 1.36.2 ignores it on /clusters.
func filter(names []string, coarse string) string {
	exact := "&filter=" + url.QueryEscape("^("+strings.ReplaceAll(strings.Join(quoted(names), "|"), "_", "[_:]")+")$")
	switch {
	case len(exact) <= maxQuery:
		return exact
	case coarse == "":
		return ""
	default:
		return "&filter=" + url.QueryEscape(coarse)
	}
}

// statName writes a name as Envoy does inside a stat's name. Releases before 1.40 leave the colons of an HTTP stat prefix as they are (measured), so the names that are read go through it too.
func statName(s string) string {
	return strings.NewReplacer("://", "_", ":/", "_", ":", "_", "\x00", "_").Replace(s)
}

func quoted(names []string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = regexp.QuoteMeta(name)
	}
	return all
}
