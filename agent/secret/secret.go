// Package secret says what may be shown of a flag's value, which may hold a secret: the agent, drainctl and the controller put into
// logs, errors, status and metrics what [Hide] leaves of it.
package secret

import (
	"regexp"
	"slices"
	"strings"
)

const hidden = "***"

// Words returns what a path may consist of to be shown. Anything else may be the secret itself, as a webhook's path is, and nobody can
// tell by its look; a word of this list is nobody's.
func Words() []string {
	return strings.Fields(`
		active actuator admin api app apps busy connections count counter current debug drain drained draining exit flight gauge graceful
		health healthz hook hooks http in inflight info internal job jobs lifecycle live liveness livez load loads maintenance management metrics
		mgmt monitor monitoring nginx offline ops pending pre prestop probe prometheus q queue queued quit readiness ready readyz report
		reports request requests server service sessions shutdown startup startupz state stats status statusz stop stub summary system tasks
		terminate usage v1 v2 v3 vars web worker workers`)
}

var (
	// Where a URL without :// begins: behind an app source's kind, or behind an http that is written wrongly.
	kinds  = regexp.MustCompile(`^(?:[^=:@/]*=)*(?:(?:(?:prometheus|json|text):|preset:(?:[a-z0-9-]+@)?)(?:https?[:/]/*)?|https?[:/]/*)`)
	preset = regexp.MustCompile(`preset:[a-z0-9-]*@`)
	// What could be the host and port of a URL, or their names in a text that says how to write one.
	host   = regexp.MustCompile(`^(?:\[[0-9A-Za-z:.%]*\]|[^\s:\[\]]*)(?::(?:\d*|PORT|N))?$`)
	local  = regexp.MustCompile(`^[^/\s]*:\d+/`) // HOST:PORT/PATH
	tag    = regexp.MustCompile(`/[^/:]+:\w[\w.-]*$`)
	digest = regexp.MustCompile(`^[^@]*@sha(?:256|512):[0-9a-f]+$`)
	quoted = regexp.MustCompile("\"[^\"]*\"|'[^']*'|`[^`]*`")
)

// Hide returns a flag's value as it may be shown. Of a URL in it, that is scheme, host and port, the parts of its path that consist of
// [Words], and what stands behind the #; user, password, query and the rest of the path are hidden. Where nobody can tell the host, because it has no host's form or an @
// stands behind it outside of quotes (a password may hold / ? and #), all of it is hidden. What is no URL stays as it is, as an image's
// reference does: see [begin].
func Hide(value string) string {
	start := begin(value)
	if start < 0 {
		return value
	}
	head, rest := value[:start], value[start:]
	if strings.Contains(preset.ReplaceAllLiteralString(head, ""), "@") {
		return hidden
	}
	address, _, _ := strings.Cut(rest, "#")
	fragment := rest[len(address):]
	address, query, _ := strings.Cut(address, "?")
	authority, path := address, ""
	if slash := strings.IndexByte(address, '/'); slash >= 0 {
		authority, path = address[:slash], address[slash:]
	}
	user := ""
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, authority = hidden+"@", authority[at+1:]
	}
	if !host.MatchString(authority) || strings.Contains(path+query+quoted.ReplaceAllLiteralString(fragment, ""), "@") {
		return head + hidden
	}
	if !strings.HasSuffix(head, "unix://") {
		path = hidePath(path)
	}
	if query != "" {
		query = "?" + hidden
	}
	return head + user + authority + path + query + fragment
}

// begin returns where the user or the host of a URL in the value begins, or -1. Without :// and http it is one behind an app source's
// kind, with an @ that is no image's digest, or as HOST:PORT/PATH without an image's tag. HOST/PATH alone is an image's as well as a
// URL's: who knows that a URL was meant must not show it.
func begin(value string) int {
	if i := strings.Index(value, "://"); i >= 0 {
		return i + len("://")
	}
	if found := kinds.FindStringIndex(value); found != nil {
		return found[1]
	}
	if !digest.MatchString(value) && (strings.Contains(value, "@") || local.MatchString(value) && !tag.MatchString(value)) {
		return 0
	}
	return -1
}

func hidePath(path string) string {
	if path == "/PATH" { // stands in texts that say how to write a URL
		return path
	}
	parts := strings.Split(path, "/")
	for i, part := range parts {
		for word := range strings.FieldsFuncSeq(part, func(r rune) bool { return r == '-' || r == '_' }) {
			if !slices.Contains(Words(), word) {
				parts[i] = hidden
			}
		}
	}
	return strings.Join(parts, "/")
}

// A URL in a text ends with the quotes around it, else at a space: a password may hold quotes.
var urls = regexp.MustCompile(`"(?:[^"\\]|\\.)*://(?:[^"\\]|\\.)*"|\S*://\S*`)

// HideText hides the same in every URL of a text.
func HideText(text string) string {
	return urls.ReplaceAllStringFunc(text, func(found string) string {
		bare := strings.TrimLeft(found, `"'(`)
		before := found[:len(found)-len(bare)]
		bare = strings.TrimRight(bare, `,.:;)"'`) // of the sentence
		return before + Hide(bare) + found[len(before)+len(bare):]
	})
}
