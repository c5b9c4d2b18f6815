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

	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// hook is what becomes of one container's preStop hook.
type hook struct {
	Container string        // as the pod calls it
	Name      string        // as the agent calls it: app, proxy, or the container's own name
	sleep     time.Duration // the hook slept this long and did nothing else; the agent holds at least as long
	Chain     []string      // what else the hook did, as a command that drain-agent hook runs
	after     bool          // the command runs when the agent has let the container go, not meanwhile
	slow      time.Duration // how long the command sleeps
	open      bool          // nobody knows how long the command runs
	role      roles.Role
	port      int32 // where the container serves; 0 is unknown
	agent     int32 // the agent's port
	note      string
}

// newHook decides what becomes of the hook that a container has. The error says why it cannot be kept.
func newHook(c *corev1.Container, name string, role roles.Role, replace []string) (hook, error) {
	h := hook{Container: c.Name, Name: name, role: role}
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
		h.judge(was.Exec.Command)
		if h.after {
			when = "after the agent has let the container go: it ends the process"
		} else if h.open {
			when += "; how long it runs stands nowhere, so what the grace period leaves is its"
		}
	case was.HTTPGet != nil:
		port := portOf(c, was.HTTPGet.Port)
		if port == 0 || was.HTTPGet.Scheme == corev1.URISchemeHTTPS || len(was.HTTPGet.HTTPHeaders) > 0 {
			return h, fmt.Errorf("container %s: its preStop hook GET %s is kept only where its port is known, without HTTPS and headers of its own: "+
				"move the call into the app (--app-drain-url is POSTed when draining begins), or let the agent take its place with --replace-hook=%s",
				c.Name, was.HTTPGet.Path, c.Name)
		}
		h.open = true
		h.Chain = []string{sharedDir + "/drain-agent", "probe", "--timeout=1h", fmt.Sprintf("http://%s/%s", // the grace period bounds it, as before
			net.JoinHostPort(cmp.Or(was.HTTPGet.Host, "127.0.0.1"), strconv.Itoa(int(port))), strings.TrimPrefix(was.HTTPGet.Path, "/"))}
	default:
		return h, nil
	}
	h.note = fmt.Sprintf("container %s: its own preStop hook is kept and runs %s", c.Name, when)
	return h, nil
}

// judge reads what a hook's command does.
func (h *hook) judge(command []string) {
	lines := roles.Commands(command)
	h.open = len(lines) == 0
	for _, line := range lines {
		switch program := line[0]; {
		case program == "sleep" && len(line) > 1:
			if m := sleepTime.FindStringSubmatch(line[1]); m != nil {
				h.slow += duration(m[1], m[2])
			} else {
				h.open = true
			}
		case ends(line):
			h.after = true
		case program == "": // a script that is no shell's, or could not be parsed
			for _, m := range sleepWords.FindAllStringSubmatch(strings.Join(line, " "), -1) {
				h.slow += duration(m[1], m[2])
			}
			h.open = true
		case !slices.Contains(quick, program):
			h.open = true
		}
	}
}

// ends reports whether a command certainly ends the container's process: a server told to quit, or a signal to process 1 whose
// meaning is to end. Signals that quiet (TSTP, USR1), a name in a script, a process found by its name prove nothing.
func ends(line []string) bool {
	switch line[0] {
	case "nginx", "openresty":
		i := slices.Index(line, "-s")
		return i >= 0 && i+1 < len(line) && (line[i+1] == "quit" || line[i+1] == "stop")
	case "apachectl", "apache2ctl", "httpd", "apache2":
		return slices.Contains(line, "graceful-stop") || slices.Contains(line, "stop")
	case "kill":
		signal := ""
		for _, word := range line[1:max(len(line)-1, 1)] {
			if word != "-s" && word != "--" {
				signal = strings.TrimPrefix(strings.TrimPrefix(strings.ToUpper(word), "-"), "SIG")
			}
		}
		return line[len(line)-1] == "1" && slices.Contains([]string{"", "TERM", "15", "QUIT", "3", "INT", "2", "KILL", "9"}, signal)
	}
	return false
}

// quick are commands that take no time of their own worth counting.
var quick = []string{"kill", "pkill", "killall", "echo", "printf", "true", ":", "touch", "rm", "test", "[", "date", "cat", "cp", "mv", "sync", "exit", "set", "export", "logger"}

var (
	sleepTime    = regexp.MustCompile(`^(\d+(?:\.\d+)?)([smh]?)$`)
	sleepWords   = regexp.MustCompile(`\bsleep\s+"?(\d+(?:\.\d+)?)([smh]?)\b`)
	sleepCommand = regexp.MustCompile(`^(?:\S*sh -c )?\s*(?:\S*/)?sleep\s+"?(\d+(?:\.\d+)?)([smh]?)"?\s*;?\s*$`)
)

// duration reads the argument of sleep; at most a day.
func duration(number, unit string) time.Duration {
	seconds, _ := strconv.ParseFloat(number, 64) // digits, or more than a day
	return time.Duration(min(seconds*map[string]float64{"": 1, "s": 1, "m": 60, "h": 3600}[unit], 86400) * float64(time.Second))
}

// Command is the exec hook that does both.
func (h hook) Command() []string {
	out := []string{sharedDir + "/drain-agent", "hook"}
	if h.agent != Port && h.agent != 0 {
		out = append(out, fmt.Sprintf("--http=http://127.0.0.1:%d", h.agent))
	}
	if h.after {
		out = append(out, "--after")
	}
	return append(append(out, h.Name, "--"), h.Chain...)
}

// HookTime returns how long a hook sleeps, and whether it does something else whose time stands nowhere.
func HookTime(h *corev1.LifecycleHandler) (sleeps time.Duration, open bool) {
	if d, only := SleepOf(h); only {
		return d, false
	}
	if h.Exec == nil {
		return 0, true
	}
	var judged hook
	judged.judge(h.Exec.Command)
	return judged.slow, judged.open
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
