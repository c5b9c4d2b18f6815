package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

func TestMain(m *testing.M) {
	pod.Helper()
	inPod(os.Args[1:])
	os.Exit(m.Run())
}

// A few cells of each kind; `make faults` plays all.
func TestSomeCells(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: pods in namespaces of their own, limits of processes")
	}
	chosen, err := choose([]string{
		"native/agent has no output/long", "native/agent has a full disk/long", "native/agent has 24 files/load",
		"classic/proxy killed/long", "native/admin half/long", "classic/app garbage/load", "native/stray hook before/idle", "native/configuration pushed/long", "classic/agent's clock an hour back/long",
	})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "faults-") //nolint:usetesting // short: a Unix socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	stage, err := newStage(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range play(t.Context(), stage, dir, chosen, flags{Parallel: 4}) {
		if len(r.wrong) > 0 {
			t.Error(r)
		}
	}
}

func TestEveryCellHasANameOfItsOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range cells() {
		if seen[c.name()] {
			t.Errorf("two cells are called %q", c.name())
		}
		seen[c.name()] = true
		if alone, err := choose([]string{c.name()}); err != nil || len(alone) != 1 {
			t.Errorf("--cell %q plays %d cells: %v", c.name(), len(alone), err)
		}
	}
	if len(seen) < 60 {
		t.Errorf("%d cells, want at least 60", len(seen))
	}
}

// What is wrong in a cell ends the command with exit status 1 and says how to play it again.
func TestAWrongCellIsNamed(t *testing.T) {
	bad := row{cell: "native/none/idle"}
	bad.say("there is no verdict")
	if err := judge([]row{{cell: "classic/none/idle"}, bad}); err == nil || !strings.Contains(err.Error(), `--cell "native/none/idle"`) || strings.Contains(err.Error(), "classic") {
		t.Errorf("judged: %v", err)
	}
	if err := judge([]row{{cell: "classic/none/idle"}}); err != nil {
		t.Error(err)
	}
}

// What was played before counts, but for what was wrong then or is played again.
func TestTheRestIsAdded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cells.tsv")
	if rows, err := readTSV(path); err != nil || len(rows) > 0 {
		t.Errorf("no table: %v, %v", rows, err)
	}
	bad := row{cell: "native/none/long", outcome: "deadline", called: 3, answered: 3, sent: 1, seconds: 60.5}
	bad.say("the verdict\nis\tdeadline")
	good := row{cell: "native/none/idle", outcome: "clean", called: 3, answered: 3, seconds: 13.4}
	if err := writeTSV(path, []row{good, bad}); err != nil {
		t.Fatal(err)
	}
	earlier, err := readTSV(path)
	bad.wrong = []string{"the verdict is deadline"}
	if err != nil || !reflect.DeepEqual(earlier, []row{good, bad}) {
		t.Fatalf("read %+v, %v", earlier, err)
	}
	again := bad
	again.outcome, again.wrong = "clean", nil
	if all := merge(earlier, []row{again}); !reflect.DeepEqual(all, []row{good, again}) {
		t.Errorf("merged %+v", all)
	}
	if err := os.WriteFile(path, []byte("cell\toutcome\thooks_in_time\tlost\tsent\tseconds\twrong\nnative/none/idle\tclean\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readTSV(path); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("half a line: %v", err)
	}
}
