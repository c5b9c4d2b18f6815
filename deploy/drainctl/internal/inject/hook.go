package inject

import (
	"cmp"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// hook is what becomes of one container's preStop hook.
type hook struct {
	Container string        // as the pod calls it
	Name      string        // as the agent calls it: app, proxy, or the container's own name
	sleep     time.Duration // the hook slept this long and did nothing else; the agent holds at least as long
	Chain     []string      // what else the hook did, as a command that drain-agent hook runs
	after     bool          // the command runs when the agent has let the container go, not meanwhile
	slow      time.Duration // how long the command sleeps
	note      string
}

// newHook decides what becomes of the hook that a container has. The error says why it cannot be kept.
func newHook(c *corev1.Container, name string, replace []string) (hook, error) {
	h := hook{Container: c.Name, Name: name}
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || slices.Contains(replace, c.Name) {
		return h, nil
	}
	was := c.Lifecycle.PreStop
	if d, sleeps := SleepOf(was); sleeps {
		if h.sleep = d; d > 0 {
			h.note = fmt.Sprintf("container %s: its preStop sleep of %v became --propagation=%v: lower it when a timeline shows that nobody came so late", c.Name, d, d)
		}
		return h, nil
	}
	when := "while the agent holds the container"
	switch {
	case was.Exec != nil && len(was.Exec.Command) > 0:
		h.Chain = was.Exec.Command
		text := strings.Join(was.Exec.Command, " ")
		for _, m := range sleepWords.FindAllStringSubmatch(text, -1) {
			h.slow += duration(m[1], m[2])
		}
		if h.after = stopCommand.MatchString(text); h.after {
			when = "after the agent has let the container go: it looks like what stops the process"
		}
	case was.HTTPGet != nil:
		port := portOf(c, was.HTTPGet.Port)
		if port == 0 || was.HTTPGet.Scheme == corev1.URISchemeHTTPS || len(was.HTTPGet.HTTPHeaders) > 0 {
			return h, fmt.Errorf("container %s: its preStop hook GET %s is kept only where its port is known, without HTTPS and headers of its own: "+
				"move the call into the app (--app-drain-url is POSTed when draining begins), or let the agent take its place with --replace-hook=%s",
				c.Name, was.HTTPGet.Path, c.Name)
		}
		h.Chain = []string{sharedDir + "/drain-agent", "probe", "--timeout=1h", fmt.Sprintf("http://%s/%s", // the grace period bounds it, as before
			net.JoinHostPort(cmp.Or(was.HTTPGet.Host, "127.0.0.1"), strconv.Itoa(int(port))), strings.TrimPrefix(was.HTTPGet.Path, "/"))}
	default:
		return h, nil
	}
	h.note = fmt.Sprintf("container %s: its own preStop hook is kept and runs %s", c.Name, when)
	return h, nil
}

var (
	sleepCommand = regexp.MustCompile(`^(?:\S*sh -c )?\s*(?:\S*/)?sleep\s+"?(\d+(?:\.\d+)?)([smh]?)"?\s*;?\s*$`)
	sleepWords   = regexp.MustCompile(`\bsleep\s+"?(\d+(?:\.\d+)?)([smh]?)\b`)
	stopCommand  = regexp.MustCompile(`(?i)\b(quit|stop|shutdown|kill|killall|pkill|term|sigterm|quitquitquit|exit-graceful)\b`)
)

// duration reads the argument of sleep; at most a day.
func duration(number, unit string) time.Duration {
	seconds, _ := strconv.ParseFloat(number, 64) // digits, or more than a day
	return time.Duration(min(seconds*map[string]float64{"": 1, "s": 1, "m": 60, "h": 3600}[unit], 86400) * float64(time.Second))
}

// Command is the exec hook that does both.
func (h hook) Command() []string {
	out := []string{sharedDir + "/drain-agent", "hook"}
	if h.after {
		out = append(out, "--after")
	}
	return append(append(out, h.Name, "--"), h.Chain...)
}

// SleepOf returns how long a hook sleeps, and whether it does nothing else.
func SleepOf(h *corev1.LifecycleHandler) (time.Duration, bool) {
	switch {
	case h == nil:
		return 0, false
	case h.Sleep != nil:
		return time.Duration(h.Sleep.Seconds) * time.Second, true
	case h.Exec != nil:
		if m := sleepCommand.FindStringSubmatch(strings.Join(h.Exec.Command, " ")); m != nil {
			return duration(m[1], m[2]), true
		}
	}
	return 0, false
}
