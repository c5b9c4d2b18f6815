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
	told, said := make(chan bool), make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		watchDrainFile(ctx, path, func(there bool) { told <- there }, func(s string) { said <- s })
	}()
	if s := <-said; !strings.Contains(s, "once a second") || !strings.Contains(s, path) {
		t.Errorf("said %q", s)
	}
	if <-told {
		t.Error("a file in a folder that is not there is told to be there")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !<-told {
		t.Error("the file is there, and told to be absent")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if <-told {
		t.Error("the file is gone, and told to be there")
	}
	cancel()
	<-ended
}

// What cannot be looked at is unknown: neither a drain nor its end.
func TestDrainFileThatCannotBeLookedAt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	var told []bool
	var said []string
	f := drainFile{path: loop, tell: func(there bool) { told = append(told, there) }, say: func(s string) { said = append(said, s) }}
	f.look()
	f.look()
	if len(told) != 0 || len(said) != 1 || !strings.Contains(said[0], loop) {
		t.Errorf("told %v, said %q; want nothing told, and one line with the path", told, said)
	}
	f.path = filepath.Join(dir, "drain")
	f.look()
	if err := os.WriteFile(f.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.look()
	good := f.path
	f.path = loop
	f.look()
	f.path = good
	f.look()
	if len(told) != 2 || told[0] || !told[1] {
		t.Errorf("told %v, want absent, there, and nothing more: the moment in between says nothing", told)
	}
}
