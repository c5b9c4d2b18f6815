package budget

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/agent/secret"
)

// How the value of a flag is written, where it is not one of a few words.
const (
	AnyText      = "any text"
	DurationText = "a duration: 1500ms, 30s or 2m"
	NumberText   = "a number from 0: 0.02"
	BoolText     = "true, false"
	SharesText   = "NAME=5s"
)

// Flags returns the flags of "drain-agent run" and how their values are written: as one of the constants says, or one of the
// words, with commas between them.
func Flags() map[string]string {
	all := map[string]string{
		"mode": "drain, observe", "proxy": "auto, envoy, istio, none", "log-format": "json, text",
		"fail-readiness": "never, draining, trigger", "preset": strings.Join(Names(), ", "),
	}
	for written, names := range map[string]string{
		AnyText:      "listen control drain-file hooks stop-order outlives-me envoy-admin app-source app-auth-file watch app-drain-url exit-with workers token-file termination-log report report-auth-file",
		DurationText: "grace-period margin propagation announce-max quiet-min quiet-max exposure drain-max settle confirm-window restart-max poll",
		NumberText:   "background accept-loss",
		BoolText:     "quit-proxy",
		SharesText:   "stop observe-sleep",
	} {
		for name := range strings.FieldsSeq(names) {
			all[name] = written
		}
	}
	return all
}

// othersTwins are the environment twins of flags that only other commands have; probes and hooks run them in the same container.
const othersTwins = "http after timeout addr service reason header"

// Problems says what "drain-agent run" cannot read of its arguments, which begin behind the program's name, and of its
// environment: a sentence each, none for another command. What refers to a variable, $(NAME), is not judged.
func Problems(args []string, environment map[string]string) (bad []string) {
	given, known := flags(args), Flags()
	if len(args) > 0 && args[0] != "run" && !strings.HasPrefix(args[0], "-") {
		return nil
	}
	for _, word := range given[""] {
		if word != "run" {
			bad = append(bad, secret.Hide(word)+": neither a flag nor a flag's value; write --NAME=VALUE")
		}
	}
	delete(given, "")
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if known[name] == "" {
			bad = append(bad, fmt.Sprintf("--%s: unknown flag; drain-agent run --help names them all", name))
		}
		for _, value := range given[name] {
			if !readable(known[name], value) {
				bad = append(bad, fmt.Sprintf("--%s=%s: cannot be read; write %s", name, secret.Hide(value), known[name]))
			}
		}
	}
	for _, variable := range slices.Sorted(maps.Keys(environment)) {
		twin, ours := strings.CutPrefix(variable, "DRAIN_AGENT_")
		name := strings.ReplaceAll(strings.ToLower(twin), "_", "-")
		switch {
		case !ours || len(given[name]) > 0: // the flag wins
		case known[name] == "" && !slices.Contains(strings.Fields(othersTwins), name):
			bad = append(bad, variable+": no flag has this twin, so nothing reads it; drain-agent run --help names them all")
		case !readable(known[name], environment[variable]):
			bad = append(bad, fmt.Sprintf("%s=%s: cannot be read; write %s", variable, secret.Hide(environment[variable]), known[name]))
		}
	}
	return bad
}

// readable reports whether the agent takes a text that should be written like that; anything does for a flag it does not know.
func readable(written, text string) bool {
	if strings.Contains(text, "$(") {
		return true
	}
	var err error
	switch written {
	case "", AnyText:
	case DurationText:
		_, err = Parse[time.Duration](text)
	case NumberText:
		_, err = Parse[float64](text)
	case BoolText:
		_, err = Parse[bool](cmp.Or(text, "true")) // may stand alone
	case SharesText:
		for pair := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '\n' }) {
			if pair = strings.TrimSpace(pair); pair != "" {
				_, share, _ := strings.Cut(pair, "=")
				_, one := Parse[time.Duration](share)
				err = cmp.Or(err, one)
			}
		}
	default:
		return slices.Contains(strings.Split(written, ", "), text)
	}
	return err == nil
}

// Parse reads a value as the agent does: a duration from 0, a number from 0 and below 1e9, or a bool.
func Parse[T any](text string) (v T, err error) {
	var parsed any
	switch any(v).(type) {
	case time.Duration:
		parsed, err = time.ParseDuration(text)
		if err == nil && parsed.(time.Duration) < 0 {
			err = fmt.Errorf("negative")
		}
	case float64:
		parsed, err = strconv.ParseFloat(text, 64)
		if f, ok := parsed.(float64); err == nil && ok && !(f >= 0 && f < 1e9) {
			err = fmt.Errorf("out of range")
		}
	case bool:
		parsed, err = strconv.ParseBool(text)
	}
	if err != nil {
		return v, err
	}
	return parsed.(T), nil
}
