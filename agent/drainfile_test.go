package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A directory that comes later than the agent (a volume mounted late, mkdir by the app) hides no drain file.
func TestDrainFileInAFolderThatComesLater(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "later", "drain")
	asked, said := make(chan string), make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		watchDrainFile(ctx, path, func(verb, _ string) (string, error) { asked <- verb; return "", nil }, func(s string) { said <- s })
	}()
	if s := <-said; !strings.Contains(s, "once a second") || !strings.Contains(s, path) {
		t.Errorf("said %q", s)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if verb := <-asked; verb != "drain" {
		t.Errorf("with the file: %s", verb)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if verb := <-asked; verb != "undrain" {
		t.Errorf("without the file: %s", verb)
	}
	cancel()
	<-ended
}
