package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// watchDrainFile drains while the file exists. It watches the directory: the file itself comes and goes.
func watchDrainFile(ctx context.Context, path string, operate func(verb, reason string) (string, error), say func(string)) {
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		err = watcher.Add(filepath.Dir(path))
	}
	if err != nil {
		say(fmt.Sprintf("the drain file %s is not watched: %v", path, err))
		return
	}
	defer watcher.Close()
	there := false
	look := func() {
		_, err := os.Stat(path)
		if now := err == nil; now != there {
			verb := map[bool]string{true: "drain", false: "undrain"}[now]
			if _, err := operate(verb, "drain file "+path); err != nil {
				say(err.Error())
			}
			there = now
		}
	}
	look()
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-watcher.Events:
			if !open {
				return
			}
			look()
		case err := <-watcher.Errors:
			say(fmt.Sprintf("watch the drain file: %v", err))
		}
	}
}
