package traffic

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// The test binary runs itself again in other roles; these variables tell it which.
const (
	peerVariable      = "TRAFFIC_TEST_PEER"      // a process with a connection: see peer
	crowdVariable     = "TRAFFIC_TEST_CROWD"     // a process with many
	namespaceVariable = "TRAFFIC_TEST_NAMESPACE" // the tests, in a network namespace of their own
	aloneVariable     = "TRAFFIC_TEST_ALONE"     // one test, in a process of its own
)

func TestMain(m *testing.M) {
	addr, many := os.Getenv(peerVariable), os.Getenv(crowdVariable)
	switch {
	case many != "":
		os.Exit(beTheCrowd(addr, many))
	case addr != "":
		os.Exit(beThePeer(addr))
	case os.Getenv(namespaceVariable) == "":
		if code, ok := runInNamespace(); ok {
			os.Exit(code)
		}
	}
	if os.Getenv(namespaceVariable) == "1" {
		if err := loopbackUp(); err != nil {
			os.Exit(noLoopback)
		}
		os.Setenv(namespaceVariable, "ready")
	}
	os.Exit(m.Run())
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

const noLoopback = 111 // exit code of a namespace that is of no use

// runInNamespace runs all tests in a network namespace of their own: elsewhere somebody else's socket may get the port
// that a test has just given back. Where the machine does not allow it the tests run here, those that need it fail.
func runInNamespace() (code int, ok bool) {
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), namespaceVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		return 0, false
	}
	cmd.Wait()
	return cmd.ProcessState.ExitCode(), cmd.ProcessState.ExitCode() != noLoopback
}

// alone runs the calling test again in a process of its own and says whether this is that process.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneVariable) != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), aloneVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
	return false
}
