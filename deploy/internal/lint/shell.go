package lint

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"mvdan.cc/sh/v3/syntax"

	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// script is the text that a shell runs, parsed.
type script struct {
	shell string // sh, bash, …
	file  *syntax.File
}

// scriptOf parses the script of a command like [sh, -c, TEXT]; false for other commands, and for what no shell could read.
func scriptOf(line []string) (script, bool) {
	if len(line) == 0 || !slices.Contains([]string{"sh", "bash", "ash", "dash", "zsh", "ksh"}, path.Base(line[0])) {
		return script{}, false
	}
	text, given := roles.Script(line)
	if !given {
		return script{}, false
	}
	file, err := syntax.NewParser().Parse(strings.NewReader(text), "")
	return script{path.Base(line[0]), file}, err == nil && len(file.Stmts) > 0
}

// words are a simple command's words; what the shell would expand is "".
func words(call *syntax.CallExpr) []string {
	out := make([]string, 0, len(call.Args))
	for _, arg := range call.Args {
		out = append(out, text(arg.Parts))
	}
	return out
}

func text(parts []syntax.WordPart) string {
	var b strings.Builder
	for _, part := range parts {
		switch part := part.(type) {
		case *syntax.Lit:
			b.WriteString(part.Value)
		case *syntax.SglQuoted:
			b.WriteString(part.Value)
		case *syntax.DblQuoted:
			b.WriteString(text(part.Parts))
		default:
			return ""
		}
	}
	return b.String()
}

// calls says whether a program is called anywhere in a script.
func (s script) calls(program string) (called bool) {
	syntax.Walk(s.file, func(n syntax.Node) bool {
		if call, is := n.(*syntax.CallExpr); is && len(call.Args) > 0 && path.Base(text(call.Args[0].Parts)) == program {
			called = true
		}
		return true
	})
	return called
}

// sequence returns the commands that run one after the other whatever happens, as far as they succeed: those of loops,
// conditions, alternatives and the background are not among them.
func sequence(statements []*syntax.Stmt) (out []*syntax.CallExpr) {
	for _, statement := range statements {
		if statement.Background || statement.Negated {
			continue
		}
		switch command := statement.Cmd.(type) {
		case *syntax.CallExpr:
			out = append(out, command)
		case *syntax.BinaryCmd:
			switch command.Op {
			case syntax.AndStmt:
				out = append(out, sequence([]*syntax.Stmt{command.X, command.Y})...)
			case syntax.OrStmt:
				out = append(out, sequence([]*syntax.Stmt{command.X})...)
			case syntax.Pipe, syntax.PipeAll: // nobody knows which end lasts
			}
		case *syntax.Block:
			out = append(out, sequence(command.Stmts)...)
		case *syntax.Subshell:
			out = append(out, sequence(command.Stmts)...)
		}
	}
	return out
}

// slept is how long a line of words sleeps; false for another command, or where the time is not to be seen.
func slept(line []string) (total time.Duration, ok bool) {
	if len(line) < 2 || path.Base(line[0]) != "sleep" {
		return 0, false
	}
	for _, word := range line[1:] {
		number := strings.TrimRight(word, "smhd")
		seconds, err := strconv.ParseFloat(number, 64)
		unit, known := map[string]float64{"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[word[len(number):]]
		if err != nil || !known {
			return 0, false
		}
		total += time.Duration(min(seconds*unit, 86400) * float64(time.Second))
	}
	return total, true
}

// sleeps returns how long a hook certainly sleeps, and whether it does anything else.
func sleeps(h *corev1.LifecycleHandler) (total time.Duration, more bool) {
	switch {
	case h == nil:
		return 0, false
	case h.Sleep != nil:
		return time.Duration(h.Sleep.Seconds) * time.Second, false
	case h.Exec == nil:
		return 0, true
	}
	line := h.Exec.Command
	if d, is := slept(line); is {
		return d, false
	}
	parsed, is := scriptOf(line)
	if !is {
		return 0, true
	}
	for _, call := range sequence(parsed.file.Stmts) {
		d, is := slept(words(call))
		total, more = total+d, more || !is
	}
	return total, more || len(parsed.file.Stmts) > 1
}

// onlyWaits reports whether a script does nothing that anybody could miss, in the end.
func (s script) onlyWaits() bool {
	commands := sequence(s.file.Stmts)
	if len(commands) == 0 {
		return false
	}
	last := words(commands[len(commands)-1])
	if len(last) == 0 {
		return false
	}
	return path.Base(last[0]) == "sleep" && s.file.Stmts[len(s.file.Stmts)-1].Redirs == nil || path.Base(last[0]) == "tail" && slices.Contains(last, "-f")
}

// stays says why the shell is still process 1 while the script's last command runs; "" where it hands its place over, passes
// signals on, or where nobody can tell. Seen with bash 5.2: it hands over to a last simple command without redirection; dash and
// busybox's ash only with exec.
func (s script) stays() string {
	if s.calls("trap") || s.calls("tini") || s.calls("dumb-init") {
		return ""
	}
	last := s.file.Stmts[len(s.file.Stmts)-1]
	for list, is := last.Cmd.(*syntax.BinaryCmd); is && (list.Op == syntax.AndStmt || list.Op == syntax.OrStmt); list, is = last.Cmd.(*syntax.BinaryCmd) {
		last = list.Y
	}
	call, simple := last.Cmd.(*syntax.CallExpr)
	switch {
	case last.Background:
		return "its script ends with a command in the background"
	case !simple && s.calls("exec"):
		return "" // somewhere it does
	case !simple:
		return "its script does not end with exec"
	case len(call.Args) == 0:
		return ""
	}
	switch line := words(call); {
	case line[0] == "exec":
		return ""
	case line[0] == "wait":
		return "its script waits for a command in the background, without a trap"
	case s.shell == "bash" && len(last.Redirs) == 0:
		return ""
	default:
		return "its script ends with " + path.Base(line[0]) + ", not with exec " + path.Base(line[0])
	}
}
