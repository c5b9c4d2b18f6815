package server

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"os"
)

// token is the secret in a file. Kubernetes replaces a mounted Secret's file when the Secret changes, so the file is read
// again for every call that shows a token.
type token struct{ path string }

// check says what is wrong with the token file, if one is configured.
func (t token) check() error {
	if t.path == "" {
		return nil
	}
	_, err := t.read()
	return err
}

func (t token) read() ([]byte, error) {
	content, err := os.ReadFile(t.path)
	if err != nil {
		return nil, fmt.Errorf("read the token file: %w; until it is there no hook call is authentic", err)
	}
	if content = bytes.TrimSpace(content); len(content) == 0 {
		return nil, errors.New("read the token file: " + t.path + " is empty; until it has a token no hook call is authentic")
	}
	return content, nil
}

// matches compares in a time that depends on neither value. A file that is missing or empty matches nothing.
func (t token) matches(shown string) bool {
	if t.path == "" || shown == "" {
		return false
	}
	want, err := t.read()
	if err != nil {
		return false
	}
	a, b := sha256.Sum256(want), sha256.Sum256([]byte(shown))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// authentic reports whether the caller is more than just any pod: it showed the token, or it called over the control socket
// under our own UID or as root and so may command us anyway. A wrong token is no error.
func (s *Server) authentic(r *http.Request) bool {
	return s.token.matches(r.Header.Get(TokenHeader)) || mayOperate(r)
}
