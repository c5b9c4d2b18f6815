package inject

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/agent/secret"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// SettingPrefix begins the annotations, of a pod or of its namespace, that say what flags say to drainctl inject. The webhook and
// drainctl read them alike.
const SettingPrefix = "drain-agent.io/"

// Setting is one such annotation.
type Setting struct {
	Name    string
	Written string // how its value is written
	Meaning string
	set     func(o *Options, value string) error
}

// Settings returns all of them, by name: those of drainctl inject, then the agent's own flags.
func Settings() []Setting {
	text := func(to func(o *Options) *string) func(*Options, string) error {
		return func(o *Options, value string) error { *to(o) = value; return nil }
	}
	out := []Setting{
		{"app", "a container", "the container whose requests app-source counts", text(func(o *Options) *string { return &o.App })},
		{"app-source", "one a line", "how the agent counts the app's requests", func(o *Options, v string) error { o.AppSource = lines(v); return nil }},
		{"envoy-admin", "`http://HOST:PORT` or `unix:///PATH`", "where Envoy's admin listens", text(func(o *Options) *string { return &o.EnvoyAdmin })},
		{"grace-period", budget.DurationText, "`terminationGracePeriodSeconds`; without it the pod's, or more where a drain would not fit", func(o *Options, v string) (err error) {
			o.Grace, err = budget.Parse[time.Duration](v)
			return err
		}},
		{"image", "an image", "the agent's; at admission only where the controller has `--allow-agent-image`", text(func(o *Options) *string { return &o.Image })},
		{"longest-request", budget.DurationText, "what the longest request or stream takes: the grace period holds it, and `drainctl lint` says where it does not", func(o *Options, v string) (err error) {
			o.Longest, err = budget.Parse[time.Duration](v)
			return err
		}},
		{"port", "a number", "the agent's port; without it 9909, or the next that is free in the pod", func(o *Options, v string) error {
			n, err := strconv.ParseUint(v, 10, 16)
			if err != nil || n == 0 {
				return errors.New("write a port from 1 to 65535")
			}
			o.Port = int32(n) //nolint:gosec // 16 bits
			return nil
		}},
		{"preset", strings.Join(budget.Names(), ", "), "who sends new connections", func(o *Options, v string) error {
			o.Preset = v
			return oneOf(v, budget.Names()...)
		}},
		{"proxy", "auto, none, istio, consul, kuma or a container", "the Envoy", text(func(o *Options) *string { return &o.Proxy })},
		{"replace-hook", "containers, with commas", "whose own preStop hook gives way to the agent's", func(o *Options, v string) error {
			o.ReplaceHooks = strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
			return nil
		}},
		{"report", "a URL, or none", "where the agent reports its verdicts, with a token of the pod's ServiceAccount for the audience `drain-controller`", func(o *Options, v string) error {
			o.Report, o.ReportCA = v, ""
			if v == "none" {
				o.Report = ""
				return nil
			}
			if u, err := url.Parse(v); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
				return errors.New("write https://HOST/PATH, without a password, or none")
			}
			return nil
		}},
		{"shape", "auto, native, classic", "of the agent", func(o *Options, v string) error { o.Shape = v; return oneOf(v, "auto", "native", "classic") }},
	}
	written := budget.Flags()
	for _, name := range []string{
		"accept-loss", "announce-max", "app-drain-url", "background", "confirm-window", "drain-max", "exposure", "fail-readiness", "log-format", "margin", "mode",
		"poll", "propagation", "quiet-max", "quiet-min", "quit-proxy", "restart-max", "settle", "stop", "watch",
	} {
		meaning := "`--" + name + "` of [drain-agent run](flags.md)"
		out = append(out, Setting{name, written[name], meaning, func(o *Options, v string) error {
			arg := "--" + name + "=" + v
			if bad := budget.Problems([]string{arg}, nil); len(bad) > 0 {
				return errors.New("write " + written[name])
			}
			o.AgentArgs = append(slices.DeleteFunc(slices.Clone(o.AgentArgs), func(one string) bool { return strings.HasPrefix(one, "--"+name+"=") }), arg)
			return nil
		}})
	}
	return out
}

// For returns the options for one workload: what its namespace's annotations say, then what its pods' say, then what the user said by
// flags. The problems are those of [Options.With].
func (o Options) For(w *manifest.Workload, objects []*manifest.Object) (Options, []string) {
	var problems []string
	from := []map[string]string{w.Pod.Annotations}
	for _, one := range objects {
		if one.Kind == "Namespace" && one.Name == w.Namespace {
			from = slices.Insert(from, 0, one.Annotations)
		}
	}
	said := o.Said
	for _, annotations := range from {
		annotations = maps.Clone(annotations)
		maps.DeleteFunc(annotations, func(key, _ string) bool { return slices.Contains(said, strings.TrimPrefix(key, SettingPrefix)) })
		var more []string
		o, more = o.With(annotations)
		problems = append(problems, more...)
	}
	return o, problems
}

// With returns the options with what annotations say, a problem for each that cannot be read or is not known. An annotation with a
// problem has no effect.
func (o Options) With(annotations map[string]string) (Options, []string) {
	var known []Setting
	var problems []string
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		name, ours := strings.CutPrefix(key, SettingPrefix)
		if !ours || slices.Contains([]string{"inject", "roles"}, name) {
			continue
		}
		if known == nil { // most pods have none
			known = Settings()
		}
		i := slices.IndexFunc(known, func(s Setting) bool { return s.Name == name })
		if i < 0 {
			problems = append(problems, key+": no such annotation")
			continue
		}
		if name == "image" && o.RefuseImage {
			problems = append(problems, key+": this cluster's controller takes no image from annotations")
			continue
		}
		changed, value := o, strings.TrimSpace(annotations[key])
		if err := known[i].set(&changed, value); err != nil {
			problems = append(problems, fmt.Sprintf("%s: %q: %v", key, secret.Hide(value), err))
			continue
		}
		o = changed
	}
	return o, problems
}

func lines(text string) (out []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

func oneOf(value string, words ...string) error {
	if slices.Contains(words, value) {
		return nil
	}
	return errors.New("write " + strings.Join(words, ", "))
}
