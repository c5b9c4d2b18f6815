package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watchDrainFile tells whether the drain file exists, at first and whenever that changes. A file that cannot be looked at is neither
// there nor gone: nothing is told then. It watches the directory: the file itself comes and goes. A directory that is not there
// yet is not watched: the file is looked at once a second then.
func watchDrainFile(ctx context.Context, path string, tell func(there bool), say func(string)) {
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
	file := drainFile{path: path, tell: tell, say: say}
	again := time.NewTicker(time.Second)
	defer again.Stop()
	file.look()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			file.look()
		case _, open := <-watcher.Events:
			if !open {
				return
			}
			file.look()
		case err := <-watcher.Errors:
			say(fmt.Sprintf("watch the drain file: %v", err))
		}
	}
}

type drainFile struct {
	path string
	tell func(there bool)
	say  func(string)

	told, there bool
	problem     string
}

func (f *drainFile) look() {
	_, err := os.Stat(f.path)
	absent := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
	problem := ""
	if err != nil && !absent {
		problem = err.Error()
	}
	if problem != f.problem && problem != "" {
		f.say("the drain file cannot be looked at, so what it said last stands: " + problem)
	}
	f.problem = problem
	if now := err == nil; problem == "" && (!f.told || now != f.there) {
		f.told, f.there = true, now
		f.tell(now)
	}
}
