package ledger

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"
)

// unknown is the outcome of a stop that left no verdict. No agent says it.
const unknown = "unknown"

// outcomes are those that an agent's verdict may have.
func outcomes() []string {
	return []string{"clean", "deadline", "proxy_died", "app_died", "finished_by_operator", "aborted", "watchdog", "container_restart", "maintenance"}
}

// outcomeForm is what outcomes of later editions look like too.
var outcomeForm = regexp.MustCompile(`^[a-z_]{1,40}$`)

// stayed are outcomes of a pod that lives on, as far as its agent could tell.
func stayed(outcome string) bool {
	return slices.Contains([]string{"aborted", "container_restart", "maintenance"}, outcome)
}

// verdict is what a termination message says.
type verdict struct {
	Outcome string
	Time    time.Time
	Reason  string
	TotalMS *int64          // nil: not said
	Cut     *int64          // requests that were cut, all containers added up, without bytes; nil: not said
	Late    *int64          // requests that came after the first hook was answered; nil: the agent could not tell, or it is not said
	Raw     json.RawMessage // the keys that it carries, as they are; with the curve only where an agent reported it
	Whole   bool            // it was not cut
}

// readVerdict finds the last verdict in a termination message. The message may be cut anywhere: kubelet keeps 12 KiB, divided by
// the number of the pod's containers. It may be the end of the container's log (terminationMessagePolicy).
func readVerdict(message string) *verdict { return lastVerdict(message, false) }

func lastVerdict(message string, curve bool) *verdict {
	var last *verdict
	for line := range strings.SplitSeq(strings.ToValidUTF8(message, "\uFFFD"), "\n") {
		if start := strings.IndexByte(line, '{'); start >= 0 {
			if v := decode(line[start:], curve); v != nil {
				last = v
			}
		}
	}
	return last
}

// decode reads one. curve: with it; messages have none, or a part.
func decode(text string, curve bool) *verdict {
	keys, values, whole := members(text)
	if !curve {
		keys = slices.DeleteFunc(keys, func(key string) bool { return key == "in_flight_curve" })
	}
	v := &verdict{Whole: whole}
	var msg string
	get(values, "msg", &msg)
	get(values, "outcome", &v.Outcome)
	if msg != "verdict" || !outcomeForm.MatchString(v.Outcome) || v.Outcome == unknown {
		return nil
	}
	get(values, "time", &v.Time)
	get(values, "reason", &v.Reason)
	v.TotalMS, v.Late = count(values["total_ms"]), count(values["arrivals_after_release"])
	v.Cut = cut(values["cut"])
	v.Raw = object(keys, values)
	return v
}

// object puts members together again.
func object(keys []string, values map[string]json.RawMessage) json.RawMessage {
	var raw bytes.Buffer
	raw.WriteByte('{')
	for i, key := range keys {
		if i > 0 {
			raw.WriteByte(',')
		}
		name, _ := json.Marshal(key) // a string always can be
		raw.Write(name)
		raw.WriteByte(':')
		raw.Write(thinned(key, values[key]))
	}
	raw.WriteByte('}')
	return raw.Bytes()
}

// members returns the members of a JSON object that are there as a whole, in their order; whole: it ends.
func members(text string) (keys []string, values map[string]json.RawMessage, whole bool) {
	values = map[string]json.RawMessage{}
	d := json.NewDecoder(strings.NewReader(text))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, values, false
	}
	for d.More() {
		name, err := d.Token()
		key, ok := name.(string)
		var value json.RawMessage
		if err != nil || !ok || d.Decode(&value) != nil {
			return keys, values, false
		}
		if rest := strings.TrimLeft(text[d.InputOffset():], " \t\r"); rest == "" { // a number whose end may be missing
			return keys, values, false
		}
		if _, twice := values[key]; !twice {
			keys = append(keys, key)
		}
		values[key] = value
	}
	_, err := d.Token()
	return keys, values, err == nil
}

// get reads one member; one that is missing or of another type leaves the zero value.
func get[T any](values map[string]json.RawMessage, key string, to *T) {
	var value T
	if raw, ok := values[key]; ok && json.Unmarshal(raw, &value) == nil {
		*to = value
	}
}

// most bounds numbers that a pod may have invented: sums stay far from overflowing.
const most = 1 << 40

// count reads a number that counts something; nil where there is none.
func count(raw json.RawMessage) *int64 {
	var n *int64
	if raw == nil || json.Unmarshal(raw, &n) != nil || n == nil || *n < 0 || *n > most {
		return nil
	}
	return n
}

// cut adds up what was cut; bytes are no requests.
func cut(raw json.RawMessage) *int64 {
	var parts map[string]json.RawMessage
	if raw == nil || json.Unmarshal(raw, &parts) != nil || parts == nil {
		return nil
	}
	var sum int64
	for name, value := range parts {
		n := count(value)
		if n == nil {
			return nil
		}
		if name != "bytes" {
			sum = min(sum+*n, most)
		}
	}
	return &sum
}
