package inject

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// hook is what becomes of one container's preStop hook.
type hook struct {
	container string        // as the pod calls it
	name      string        // as the agent calls it: app, proxy, or the container's own name
	sleep     time.Duration // the hook slept this long; the agent holds at least as long
	chain     []string      // the hook's own command, to be kept
	after     bool          // the command runs when the agent has let the container go, not before
	note      string
}

// newHook decides what becomes of the hook that a container has. The error says why it cannot be kept.
func newHook(c *corev1.Container, name string, replace []string) (hook, error) {
	h := hook{container: c.Name, name: name}
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || slices.Contains(replace, c.Name) {
		return h, nil
	}
	was := c.Lifecycle.PreStop
	var sleeps bool
	switch h.sleep, sleeps = SleepOf(was); {
	case sleeps:
	case was.Exec != nil:
		if len(was.Exec.Command) == 0 || !slices.Contains([]string{"sh", "bash", "ash", "dash"}, path.Base(was.Exec.Command[0])) {
			return h, fmt.Errorf("container %s: its preStop hook %q runs without a shell, and two hooks can only be chained by one; "+
				"write it as [/bin/sh, -c, …], or let the agent take its place with --replace-hook=%s", c.Name, was.Exec.Command, c.Name)
		}
		h.chain = was.Exec.Command
		h.after = stops(strings.Join(was.Exec.Command, " "))
		when := "before the agent is asked: it may be what tells others that the pod leaves"
		if h.after {
			when = "after the agent has let the container go: it looks like what stops the process"
		}
		h.note = fmt.Sprintf("container %s: its own preStop command is kept and runs %s", c.Name, when)
	case was.HTTPGet != nil:
		return h, fmt.Errorf("container %s: its preStop hook calls GET %s on port %s; a container has one hook and HTTP calls cannot be chained: "+
			"move the call into the app (--app-drain-url is POSTed when draining begins), or let the agent take its place with --replace-hook=%s",
			c.Name, was.HTTPGet.Path, was.HTTPGet.Port.String(), c.Name)
	}
	if h.sleep > 0 {
		h.note = fmt.Sprintf("container %s: its preStop sleep of %v became --propagation=%v: lower it when a timeline shows that nobody came so late", c.Name, h.sleep, h.sleep)
	}
	return h, nil
}

var (
	sleepCommand = regexp.MustCompile(`^(?:\S*sh -c )?\s*(?:\S*/)?sleep\s+"?(\d+(?:\.\d+)?)([smh]?)"?\s*;?\s*$`)
	stopCommand  = regexp.MustCompile(`(?i)\b(quit|stop|shutdown|kill|killall|pkill|term|sigterm|quitquitquit|exit-graceful)\b`)
)

// sleepOf reads commands that do nothing but sleep.
func sleepOf(command []string) (time.Duration, bool) {
	text := strings.Join(command, " ")
	m := sleepCommand.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	seconds, err := strconv.ParseFloat(m[1], 64)
	unit := map[string]float64{"": 1, "s": 1, "m": 60, "h": 3600}[m[2]]
	return time.Duration(min(seconds*unit, 86400) * float64(time.Second)), err == nil
}

// stops reports whether a command looks like one that ends the process.
func stops(command string) bool {
	return stopCommand.MatchString(command)
}

// script is the chained hook: the user's command and the call of the agent, in their order.
func (h hook) script(grace time.Duration) string {
	words := make([]string, len(h.chain))
	for i, word := range h.chain {
		words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	own := strings.Join(words, " ")
	ask := fmt.Sprintf("%s/drain-agent probe --timeout=%v http://127.0.0.1:%d/prestop/%s", sharedDir, grace, Port, h.name)
	if h.after {
		return ask + "; " + own
	}
	return own + "; " + ask
}

// SleepOf returns how long a hook sleeps, and whether it does nothing else.
func SleepOf(h *corev1.LifecycleHandler) (time.Duration, bool) {
	switch {
	case h == nil:
		return 0, false
	case h.Sleep != nil:
		return time.Duration(h.Sleep.Seconds) * time.Second, true
	case h.Exec != nil:
		return sleepOf(h.Exec.Command)
	}
	return 0, false
}
