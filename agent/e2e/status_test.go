package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/drain-agent/drain-agent/scripts/synced"
)

// terminal returns both ends of a pseudo-terminal.
func terminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(ours.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

const redraw = "\033[H\033[2J"

// status -w redraws one page in a terminal and writes a line a time elsewhere; both follow a drain to the agent's end.
func TestStatusWatch(t *testing.T) {
	t.Parallel()
	u := start(t, setup{})
	control := "--control=" + u.shared("control.sock")
	ours, theirs := terminal(t)
	defer ours.Close()
	drawn, lines := &synced.Buffer{}, &synced.Buffer{}
	go func() { _, _ = io.Copy(drawn, ours) }() // ends with an error when the terminal's other end is closed
	inTerminal, elsewhere := exec.Command(binaries.agent, "status", "-w", control), exec.Command(binaries.agent, "status", "-w", control)
	inTerminal.Stdout, inTerminal.Stderr = theirs, theirs
	elsewhere.Stdout = lines
	for _, cmd := range []*exec.Cmd{inTerminal, elsewhere} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	theirs.Close()
	u.until("the first page and the first line", func() bool {
		return strings.Contains(lastPage(drawn), "phase     serving") && strings.Contains(lines.String(), "serving ")
	})
	long := u.background("/work?ms=4000")
	u.busy(1)
	u.Delete(nil)
	u.until("the page to show the drain", func() bool { return strings.Contains(lastPage(drawn), "phase     draining") })
	u.until("a line to show the drain", func() bool { return strings.Contains(lines.String(), "\ndraining ") })
	<-long
	u.wait()
	for _, cmd := range []*exec.Cmd{inTerminal, elsewhere} {
		_ = cmd.Wait() // ends with the agent: exit code 1, which the message explains
	}
	page := drawn.String()
	if strings.Count(page, redraw) < 3 {
		t.Errorf("the page was drawn %d times", strings.Count(page, redraw))
	}
	for one := range strings.SplitSeq(page, redraw) {
		if n := strings.Count(one, "phase     "); n > 1 {
			t.Errorf("%d pages under each other:\n%s", n, one)
		}
	}
	if !strings.Contains(page, "1 in flight by clusters") || !strings.Contains(page, "waiting   for") || !strings.Contains(page, "hook      app held for") {
		t.Errorf("the page does not say who blocks:\n%s", page)
	}
	if text := lines.String(); strings.Contains(text, "\033") || strings.Count(text, "\n") < 3 {
		t.Errorf("outside of a terminal:\n%q", text)
	}
}

func lastPage(s *synced.Buffer) string {
	text := s.String()
	return text[max(0, strings.LastIndex(text, redraw)):]
}
