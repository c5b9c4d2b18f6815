package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The kernel reads no page of the program for the one beside it: all of its mappings are marked so.
func TestProgramIsReadAsNeeded(t *testing.T) {
	run := apiServer(t).controller(t)
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", run.process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	ours, marked := 0, 0
	mapping := ""
	for line := range strings.Lines(string(readFile(t, fmt.Sprintf("/proc/%d/smaps", run.process.Process.Pid)))) {
		name, flags, _ := strings.Cut(line, ":")
		if strings.Contains(name, "-") {
			mapping = line
		}
		if name != "VmFlags" || !strings.HasSuffix(mapping, " "+program+"\n") {
			continue
		}
		ours++
		if strings.Contains(flags, " rr") {
			marked++
		}
	}
	if ours == 0 || marked != ours {
		t.Errorf("%d of %d mappings of %s are read as needed", marked, ours, program)
	}
}
