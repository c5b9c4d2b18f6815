package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watchDrainFile drains while the file exists. It watches the directory: the file itself comes and goes. A directory that is not there
// yet is not watched: the file is looked at once a second then.
func watchDrainFile(ctx context.Context, path string, operate func(verb, reason string) (string, error), say func(string)) {
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		defer watcher.Close()
		err = watcher.Add(filepath.Dir(path))
	} else {
		watcher = new(fsnotify.Watcher) // never has anything to tell
	}
	if err != nil {
		say(fmt.Sprintf("the drain file %s is looked at once a second only: %v", path, err))
	}
	there, said := false, ""
	again := time.NewTicker(time.Second) // what was refused in one phase may be welcome in the next
	defer again.Stop()
	look := func() {
		_, err := os.Stat(path)
		if now := err == nil; now != there {
			verb := map[bool]string{true: "drain", false: "undrain"}[now]
			_, err := operate(verb, "drain file "+path)
			if text := errorText(err); text != said {
				said = text
				if err != nil {
					say(text + "; tried again")
				}
			}
			if err == nil {
				there = now
			}
		}
	}
	look()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			look()
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

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
