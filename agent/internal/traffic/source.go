package traffic

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/secret"
)

// Source reads how many requests the app still holds.
type Source struct {
	name string
	spec string     // as it may be shown
	mu   sync.Mutex // one Read at a time
	kind kind
}

// kind is what one way of reading has to bring; a nil function means there is nothing to do.
type kind struct {
	read    func(context.Context) (drain.Count, error)
	classes func() map[string]int64 // of the newest read
	open    func() error
	close   func() error
	changed <-chan struct{}
	page    *page // nil for what is no URL
	sockets *follower
}

const sourceForms = `want [NAME=]prometheus:URL#metric{label="value"}, [NAME=]json:URL#/pointer, [NAME=]text:URL#regexp, [NAME=]preset:SERVER@URL, [NAME=]file:PATH, [NAME=]socket:PORT or none`

// ParseSource reads a specification as it is written on the command line:
//
//	[NAME=]prometheus:URL#metric{label="value"}   sum of the series that match; = != =~ !~; one - SELECTOR or - NUMBER
//	[NAME=]json:URL#/pointer                      number at an RFC 6901 pointer; one - /pointer or - NUMBER
//	[NAME=]text:URL#regexp                        sum of what the groups hold; one - NUMBER
//	[NAME=]preset:SERVER@URL                      one of those, for a server in [Presets]
//	[NAME=]file:PATH                              whole number and a newline
//	[NAME=]socket:PORT                            open connections of a local port
//	none                                          nothing is read
//
// NAME is the container's name, "app" when left out. The error says what is wrong; the specification, which may hold a secret, does not stand in it
// unless through [secret.Hide].
func ParseSource(spec string) (*Source, error) {
	name, rest := "app", spec
	if before, after, ok := strings.Cut(spec, "="); ok && !strings.ContainsAny(before, ":") {
		name, rest = before, after
	}
	if !validName(name) {
		return nil, fmt.Errorf("app source %q: %q is no container name", secret.Hide(spec), secret.Hide(name))
	}
	k, err := parseKind(rest)
	if err != nil {
		return nil, fmt.Errorf("app source %q: %w", secret.Hide(spec), err)
	}
	return &Source{name: name, spec: secret.Hide(spec), kind: k}, nil
}

func parseKind(spec string) (kind, error) {
	scheme, rest, _ := strings.Cut(spec, ":")
	switch scheme {
	case "prometheus":
		return prometheusKind(rest)
	case "json":
		return jsonKind(rest)
	case "text":
		return textKind(rest)
	case "preset":
		return presetKind(rest)
	case "file":
		return fileKind(rest)
	case "socket":
		return socketKind(rest)
	case "none":
		if spec != "none" {
			return kind{}, fmt.Errorf("none takes nothing after it")
		}
		return kind{}, nil
	}
	return kind{}, fmt.Errorf("unknown kind %.20q: %s", scheme, sourceForms)
}

// Name returns the name of the container the source belongs to.
func (s *Source) Name() string { return s.name }

// Spec returns the specification the source was made from, without what may be a secret: see [secret.Hide].
func (s *Source) Spec() string { return s.spec }

// Secret says whether the specification itself holds a user or a password.
func (s *Source) Secret() bool { return s.kind.page != nil && s.kind.page.login != "" }

// SetAuth gives a source its credentials; what is not read over HTTP needs none and says false. It must not be called after the
// first Read.
func (s *Source) SetAuth(a *Auth) bool {
	if s.kind.page == nil {
		return false
	}
	s.kind.page.auth = a
	return true
}

// BehindProxy tells a socket source that the pod's own proxy connects to its port and that the proxy's requests are read elsewhere:
// connections that come from the pod itself are not counted then, as they may be the proxy's idle ones. It must not be called after
// the first Read.
func (s *Source) BehindProxy() {
	if s.kind.sockets != nil {
		s.kind.sockets.remoteOnly = true
	}
}

// None says that there is nothing to read: the source was written as "none".
func (s *Source) None() bool { return s.kind.read == nil }

// Open starts what the source needs between two reads: a file source watches its directory.
// A file source whose Open failed can still be read; it then goes to the file each time and Changed stays silent.
func (s *Source) Open() error {
	if s.kind.open == nil {
		return nil
	}
	return s.kind.open()
}

// Changed delivers when a file source may have changed, so that its reader need not wait for the next poll.
// It is nil, which blocks for ever, for all other kinds. It is never closed.
func (s *Source) Changed() <-chan struct{} { return s.kind.changed }

// Read returns how many requests the app holds. The count is unknown, and the error says why, whenever there is no
// whole number to be had: the endpoint does not answer 200 within ctx or within five seconds, the metric or the pointer
// is missing, the number is negative, fractional or NaN, the file is absent or half written, nothing was ever seen
// listening on the port. A source written as "none" returns unknown and no error.
func (s *Source) Read(ctx context.Context) (drain.Count, error) {
	if s.None() {
		return drain.Count{}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.kind.read(ctx)
	if err != nil {
		return drain.Count{}, fmt.Errorf("read %s: %w", s.spec, err)
	}
	return n, nil
}

// Classes returns the newest Read's count by class, as far as the source tells: a prometheus source names a class by the
// values of the labels that the specification leaves open, active_requests{kind="websocket"} by "websocket". Zeros, and what
// has no such label, are left out. It is empty when that Read failed, and where there are more than 32 classes.
func (s *Source) Classes() map[string]int64 {
	if s.kind.classes == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.kind.classes())
}

// Close ends what Open started, waits for its goroutine, and closes idle connections. It may be called twice.
func (s *Source) Close() error {
	if s.kind.close == nil {
		return nil
	}
	return s.kind.close()
}

// validName says whether s can be a container's name: an RFC 1123 label.
func validName(s string) bool {
	ok := len(s) > 0 && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-'
	for _, c := range []byte(s) {
		ok = ok && (c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z')
	}
	return ok
}
