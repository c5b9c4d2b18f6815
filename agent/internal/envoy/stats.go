package envoy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxQuery keeps our request line far below the 60 KiB of headers that Envoy takes.
const maxQuery = 8 << 10

// readStats reads /stats, a line for each, and returns the numbers among wanted. A wanted name that is missing was not printed: hidden, or never written.
func readStats(body io.Reader, wanted []string) (map[string]int64, error) {
	found := make(map[string]int64, len(wanted))
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4<<10), maxValue)
	for lines.Scan() {
		raw, value, ok := bytes.Cut(lines.Bytes(), []byte(": "))
		if !ok {
			return nil, fmt.Errorf("read stats: %.40q is none", lines.Bytes())
		}
		name := string(raw)
		if bytes.IndexByte(raw, ':') >= 0 {
			name = statName(name)
		}
		if !slices.Contains(wanted, name) {
			continue
		}
		n, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("read stats: %s is %.40s", name, value)
		}
		found[name] = n
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = errTooLarge
		}
		return nil, fmt.Errorf("read stats: %w", err)
	}
	return found, nil
}

// statsPath asks for exactly these stats. With usedOnly Envoy skips those never written, which is far cheaper for it.
func statsPath(usedOnly bool, names []string) string {
	path := "/stats?"
	if usedOnly {
		path += "usedonly&"
	}
	return path + strings.TrimPrefix(filter(names, "^(cluster_manager|http|http2|listener|listener_manager|server|redis|thrift|dubbo|rocketmq|generic_proxy|udp)\\."), "&")
}

func clustersPath(names []string) string { return "/clusters?format=json" + filter(names, "") }

// filter is Envoy's RE2 filter for exactly these names; where that would be too long the coarse one. Replies are filtered on our side as well: 1.36.2 ignores it on /clusters.
func filter(names []string, coarse string) string {
	exact := "&filter=" + inQuery("^("+strings.ReplaceAll(strings.Join(quoted(names), "|"), "_", "[_:]")+")$")
	switch {
	case len(exact) <= maxQuery:
		return exact
	case coarse == "":
		return ""
	default:
		return "&filter=" + inQuery(coarse)
	}
}

// statName writes a name as Envoy does inside a stat's name. Releases before 1.40 leave the colons of an HTTP stat prefix as they are (measured), so the names that are read go through it too.
func statName(s string) string { return statNames.Replace(s) }

var statNames = strings.NewReplacer("://", "_", ":/", "_", ":", "_", "\x00", "_")

func quoted(names []string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = regexp.QuoteMeta(name)
	}
	return all
}

// anyOf is the expression, as it stands in a query, that is true of these names and of no other.
func anyOf(names []string) string {
	return inQuery("^(" + strings.Join(quoted(names), "|") + ")$")
}

// inQuery writes an expression as Envoy reads it in a query, where a plus is a plus and no space.
func inQuery(expression string) string {
	return strings.ReplaceAll(url.QueryEscape(expression), "+", "%20")
}
