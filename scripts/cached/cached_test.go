package cached

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestWhatWasFilledIsKeptAndWhatFailedIsNot(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	if _, err := folder("thing-1", func(string) error { return errors.New("no network") }); err == nil {
		t.Fatal("a failure was kept")
	}
	write := func(dir string) error { return os.WriteFile(filepath.Join(dir, "program"), nil, 0o600) }
	var all sync.WaitGroup
	for range 4 { // at once: all get a complete one
		all.Go(func() {
			dir, err := folder("thing-1", write)
			if err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "program")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	dir, err := folder("thing-1", func(string) error { return errors.New("asked again") })
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(left) != 1 {
		t.Errorf("%v, %v: want the folder and nothing else", left, err)
	}
}
