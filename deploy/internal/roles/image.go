package roles

import (
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
	"mvdan.cc/sh/v3/syntax"
)

// image is a container's image without registry, tag and digest.
type image struct {
	path string   // such as library/nginx or istio/proxyv2; as written where it is no reference ("auto", ko://…)
	name string   // its last segment
	word []string // the words of the last segment
}

func parseImage(text string) image {
	i := image{path: text}
	if ref, err := reference.ParseNormalizedNamed(text); err == nil {
		i.path = reference.Path(ref)
	} else if rest, ok := strings.CutPrefix(text, "ko://"); ok {
		i.path = rest
	}
	i.name = strings.ToLower(path.Base(i.path))
	i.word = words(i.name)
	return i
}

// words cuts a name at everything that is neither a letter nor a digit.
func words(name string) []string {
	return strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

// commandsOf returns what a container runs as far as its manifest says it. Arguments without a command belong to the image's
// entry point, whose name is not known: the first word is then "".
func commandsOf(c *corev1.Container) [][]string {
	switch {
	case len(c.Command) > 0:
		return Commands(slices.Concat(c.Command, c.Args))
	case len(c.Args) > 0 && !isProgram(c.Args[0]):
		return [][]string{slices.Concat([]string{""}, c.Args)}
	}
	return Commands(c.Args)
}

// isProgram reports whether a first argument names a program: the entry points of many images run their arguments.
func isProgram(word string) bool {
	return strings.HasPrefix(word, "/") ||
		slices.Contains([]string{"envoy", "sh", "bash", "ash", "pilot-agent", "consul-dataplane", "nginx", "celery", "sidekiq", "bundle", "php-fpm", "php", "python", "python3", "node", "npm", "java"}, word)
}

// Commands splits an exec line into the commands that it runs, program names without directories; a shell's script is parsed,
// one command after the other. A script that cannot be parsed, or that calls through variables, yields what could be read.
func Commands(line []string) [][]string {
	if len(line) == 0 {
		return nil
	}
	base := path.Base(line[0])
	switch base {
	case "tini", "dumb-init", "catatonit", "env", "exec", "nice", "ionice", "nohup", "setsid", "timeout", "gosu", "su-exec":
		rest := line[1:]
		for len(rest) > 0 && (strings.HasPrefix(rest[0], "-") || strings.Contains(rest[0], "=") || base == "timeout" && strings.Trim(rest[0], "0123456789.smh") == "") {
			rest = rest[1:]
		}
		if (base == "gosu" || base == "su-exec") && len(rest) > 0 {
			rest = rest[1:] // the user
		}
		return Commands(rest)
	case "sh", "bash", "ash", "dash", "zsh", "busybox":
		if script, ok := Script(line); ok {
			return scriptCommands(script)
		}
	}
	return [][]string{slices.Concat([]string{base}, line[1:])}
}

// Script returns the text that a shell is given with -c, also where other options stand in the same word or behind it: [bash, -ceuo,
// pipefail, TEXT].
func Script(line []string) (string, bool) {
	given := false
	for i := 1; i < len(line); i++ {
		word := line[i]
		switch option := len(word) > 1 && (word[0] == '-' || word[0] == '+'); {
		case !option:
			return word, given // without -c it is a file
		case word == "--":
		case strings.HasPrefix(word, "--"):
			given = false // bash's long options, some with a value: no script that we know of stands behind them
		default:
			given = given || word[0] == '-' && strings.Contains(word, "c")
			i += strings.Count(strings.ToLower(word), "o") // -o and -O take the next word each
		}
	}
	return "", false
}

func scriptCommands(script string) (out [][]string) {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(script), "")
	if err != nil || file == nil {
		return [][]string{{"", script}}
	}
	syntax.Walk(file, func(n syntax.Node) bool {
		call, ok := n.(*syntax.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		var line []string
		for _, arg := range call.Args {
			line = append(line, literal(arg))
		}
		if line[0] != "" {
			out = append(out, Commands(line)...)
		}
		return true
	})
	return out
}

// literal is a word as far as it does not depend on variables; a variable stands as "$".
func literal(w *syntax.Word) string {
	var out strings.Builder
	for _, part := range w.Parts {
		switch p := part.(type) {
		case *syntax.Lit:
			out.WriteString(p.Value)
		case *syntax.SglQuoted:
			out.WriteString(p.Value)
		case *syntax.DblQuoted:
			for _, inner := range p.Parts {
				if lit, ok := inner.(*syntax.Lit); ok {
					out.WriteString(lit.Value)
				} else {
					out.WriteString("$")
				}
			}
		default:
			out.WriteString("$")
		}
	}
	return out.String()
}
