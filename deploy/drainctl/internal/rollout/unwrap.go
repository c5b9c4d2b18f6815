package rollout

import (
	"cmp"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// record is one line of an agent, out of what a collector put around it.
type record struct {
	whose
	text []byte
}

// origin is what wrappers tell of the line inside.
type origin struct {
	whose
	at string
}

// The shapes of lines that are no JSON from their first byte: kubectl logs --prefix; the files of containerd and CRI-O, where P is
// a part of a line; logcli's default output, a time and a set of labels before the line.
var (
	kubectlLine = regexp.MustCompile(`^\[pod/([^/\]]+)/[^\]]+\] `)
	criLine     = regexp.MustCompile(`^(\d{4}-\d\d-\d\dT\S+) (stdout|stderr) ([FP])(?::\S+)? (.*)$`)
	logcliLine  = regexp.MustCompile(`^(\d{4}-\d\d-\d\dT\S+)\s+\{([^{}]*)\}\s+(.*)$`)
	label       = regexp.MustCompile(`\b(?:pod|pod_name|k8s_pod_name)="([^"]+)"`)
	space       = regexp.MustCompile(`\b(?:namespace|namespace_name|k8s_namespace_name)="([^"]+)"`)
	ours        = regexp.MustCompile(`\\*"msg\\*": ?\\*"(drain|verdict)\\*"`)
)

// maxOpen bounds what is kept of a JSON text that goes over many lines.
const maxOpen = 64 << 20

// unwrapper takes the lines of one source and gives back those of agents. Each line is looked at for itself: sources may be mixed.
type unwrapper struct {
	name    string            // the pod, where nothing else tells one
	partial map[string]string // begun lines, by stream
	open    []byte            // a JSON text over several lines, as gcloud prints
	depth   int
	held    bool // this line was the beginning of one
	others  int  // lines that are nobody's business here
	broken  int  // lines that look like an agent's and cannot be read
}

func (u *unwrapper) line(line string) []record {
	from := origin{whose: whose{pod: u.name}}
	line = strings.TrimRight(line, "\r\n")
	if m := kubectlLine.FindStringSubmatch(line); m != nil {
		from.pod, line = m[1], line[len(m[0]):]
	}
	if m := criLine.FindStringSubmatch(line); m != nil {
		from.at = m[1]
		var whole bool
		if line, whole = u.join(from.pod+" "+m[2], m[4], m[3] == "F"); !whole {
			return nil
		}
	} else if m := logcliLine.FindStringSubmatch(line); m != nil {
		from.at, line = m[1], m[3]
		if l := label.FindStringSubmatch(m[2]); l != nil {
			from.pod = l[1]
		}
		if l := space.FindStringSubmatch(m[2]); l != nil {
			from.namespace = l[1]
		}
	}
	text := strings.TrimSuffix(strings.TrimSpace(line), ",")
	switch {
	case text == "":
		return nil
	case u.open != nil && (line[0] != '{' || !json.Valid([]byte(text))):
		return u.more(line, from)
	case (text[0] == '{' || text[0] == '[') && !json.Valid([]byte(text)):
		u.close()
		return u.more(line, from)
	}
	u.close()
	return u.counted(u.text(text, from), text)
}

// join puts the parts of a line together; false while the last one is missing.
func (u *unwrapper) join(stream, part string, last bool) (string, bool) {
	if u.partial == nil {
		u.partial = map[string]string{}
	}
	whole := u.partial[stream] + part
	if delete(u.partial, stream); !last && len(whole) < maxOpen {
		u.partial[stream] = whole
	}
	return whole, last
}

// more adds a line to a JSON text that is not complete yet.
func (u *unwrapper) more(line string, from origin) []record {
	u.open = append(append(u.open, line...), '\n')
	inString, escaped := false, false
	for _, b := range []byte(line) {
		switch {
		case escaped:
			escaped = false
		case inString && b == '\\':
			escaped = true
		case b == '"':
			inString = !inString
		case !inString && (b == '{' || b == '['):
			u.depth++
		case !inString && (b == '}' || b == ']'):
			u.depth--
		}
	}
	if u.depth > 0 && !inString && len(u.open) < maxOpen { // no string of JSON goes over a line's end
		return nil
	}
	text := strings.TrimSuffix(strings.TrimSpace(string(u.open)), ",")
	u.open, u.depth = nil, 0
	return u.counted(u.text(text, from), text)
}

// close gives up a JSON text that never became complete.
func (u *unwrapper) close() {
	if len(u.open) > 0 {
		u.counted(nil, string(u.open))
	}
	u.open, u.depth = nil, 0
}

// end gives up whatever was begun.
func (u *unwrapper) end() {
	u.close()
	for _, text := range u.partial {
		u.counted(nil, text)
	}
	u.partial = nil
}

func (u *unwrapper) counted(found []record, text string) []record {
	switch {
	case len(found) > 0 || u.held:
		u.held = false
	case ours.MatchString(text):
		u.broken++
	default:
		u.others++
	}
	return found
}

// text reads a line that holds JSON, from its first brace: timestamps and the like may stand before it.
func (u *unwrapper) text(text string, from origin) []record {
	start := strings.IndexAny(text, "{[")
	if start < 0 {
		return nil
	}
	for _, at := range []int{start, strings.IndexByte(text, '{')} { // [info] {…
		var value any
		if at >= 0 && json.Unmarshal([]byte(text[at:]), &value) == nil {
			return u.value(value, from)
		}
	}
	return nil
}

// payloads are the keys under which collectors keep the line, the parsed one first where some keep both. Sources: docker's
// json-file (log), logcli -o jsonl (line) and Loki's API (data.result[].values), filebeat and fluent-bit in Elasticsearch
// (hits.hits[]._source, message, log, log_processed), Google Cloud (jsonPayload, textPayload), journald (MESSAGE), OTLP (body).
var payloads = []string{"jsonPayload", "log_processed", "json", "_source", "log", "line", "message", "textPayload", "MESSAGE", "body", "data", "result", "hits", "entries"}

// value looks for agents' lines in what was read. An object yields what its first telling key yields, an array all of its items.
func (u *unwrapper) value(value any, from origin) (out []record) {
	switch value := value.(type) {
	case string:
		return u.text(value, from)
	case []any:
		for _, one := range value {
			out = append(out, u.value(one, from)...)
		}
	case map[string]any:
		if from = from.refined(value); isOurs(value) {
			if _, has := value["time"]; !has { // Google Cloud takes it away
				value["time"] = from.at
			}
			text, _ := json.Marshal(value) // values from JSON; 1.0, as protobuf writes whole numbers, becomes 1
			return []record{{from.whose, text}}
		}
		if text, is := value["log"].(string); is && value["stream"] != nil && !strings.HasSuffix(text, "\n") && value["time"] != nil && len(value) <= 4 {
			u.held = true // docker cuts long lines
			u.join("docker "+from.pod, text, false)
			return nil
		} else if is && u.partial["docker "+from.pod] != "" {
			value["log"], _ = u.join("docker "+from.pod, text, true)
		}
		if values, is := value["values"].([]any); is { // Loki: [[time, line], …]
			for _, one := range values {
				if pair, _ := one.([]any); len(pair) >= 2 {
					out = append(out, u.value(pair[1], from)...)
				}
			}
			return out
		}
		for _, key := range slices.Concat(payloads, slices.Sorted(maps.Keys(value))) {
			if found := u.value(value[key], from); len(found) > 0 {
				return found
			}
		}
	}
	return out
}

func isOurs(value map[string]any) bool {
	return value["msg"] == "drain" && value["seq"] != nil || value["msg"] == "verdict" && value["outcome"] != nil
}

// refined adds what an object tells of its line: the pod, its namespace, and when it was written.
func (from origin) refined(value map[string]any) origin {
	text := func(keys ...string) string {
		var at any = value
		for _, key := range keys {
			m, _ := at.(map[string]any)
			at = m[key]
		}
		s, _ := at.(string)
		return s
	}
	return origin{
		whose: whose{
			namespace: cmp.Or(text("labels", "namespace"), text("stream", "namespace"), text("labels", "namespace_name"), text("stream", "namespace_name"), text("kubernetes", "namespace_name"),
				text("kubernetes", "namespace"), text("kubernetes.namespace_name"), text("kubernetes.namespace"), text("resource", "labels", "namespace_name"), from.namespace),
			pod: cmp.Or(text("labels", "pod"), text("stream", "pod"), text("labels", "pod_name"), text("stream", "pod_name"), text("kubernetes", "pod_name"), text("kubernetes", "pod", "name"),
				text("kubernetes.pod_name"), text("kubernetes.pod.name"), text("resource", "labels", "pod_name"), from.pod),
		},
		at: cmp.Or(text("timestamp"), text("@timestamp"), text("time"), from.at),
	}
}
