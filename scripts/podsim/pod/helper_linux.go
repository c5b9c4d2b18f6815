package pod

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Names under which this program runs itself again, as argument 0.
const (
	helperPrefix    = "podsim-"
	helperPause     = helperPrefix + "pause"
	helperContainer = helperPrefix + "container"
	helperExec      = helperPrefix + "exec"
)

// startFailed is the exit code of a container whose program could not be run (containerd's StartError).
const startFailed = 128

// job tells a helper what to become.
type job struct {
	Hostname    string
	Scratch     string // an empty folder, where a new root can be put together
	Binds       []bind
	Dir         string
	User, Group *int64
	Argv, Env   []string
}

// Helper must be the first call of main, or of TestMain, in a program that uses this package: the package starts the
// program again, under another name, to set up namespaces from inside. In such a process Helper does not return;
// in every other it does nothing.
func Helper() {
	var err error
	switch os.Args[0] {
	case helperPause:
		err = pause(os.Args[1])
	case helperContainer:
		err = become(os.Args[1], enterNew)
		fmt.Fprint(os.NewFile(4, "report"), err) // the caller waits for it
	case helperExec:
		err = become(os.Args[1], enterExisting)
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, os.Args[0]+":", err)
		os.Exit(startFailed)
	}
	os.Exit(0)
}

// pause configures the pod's network as told on its input, then holds the namespaces until that input closes.
func pause(hostname string) error {
	signal.Ignore(syscall.SIGCHLD) // as PID 1 of a shared PID namespace: reap orphans
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	_ = unix.Sethostname([]byte(hostname))
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if err := errors.Join(configureNetwork(strings.Fields(line)), tryMounts()); err != nil {
		fmt.Println(strings.ReplaceAll(err.Error(), "\n", "; "))
		return err
	}
	fmt.Println("ok")
	_, _ = io.Copy(io.Discard, in)
	return nil
}

// tryMounts does what every container will do, so that a pod that cannot have containers here fails once and says why.
func tryMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make mounts of its own (in a chroot that is not possible): %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

func configureNetwork(addresses []string) error {
	if len(addresses) != 2 {
		return fmt.Errorf("configure the pod's network: want two addresses, got %q", addresses)
	}
	own, err := netip.ParseAddr(addresses[0])
	if err != nil {
		return err
	}
	gateway, err := netip.ParseAddr(addresses[1])
	if err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	if err := setAddress("eth0", own); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Gw: gateway.AsSlice()})
}

// become turns this process into the program of a job. It returns only an error.
func become(text string, enter func(job) error) error {
	runtime.LockOSThread() // namespaces belong to a thread until execve makes it the only one
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	if err := unix.Setns(3, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the pod's network: %w", err)
	}
	if err := enter(j); err != nil {
		return err
	}
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close inherited files: %w", err)
	}
	for _, variable := range j.Env {
		if path, ok := strings.CutPrefix(variable, "PATH="); ok {
			os.Setenv("PATH", path)
		}
	}
	if j.Dir == "" {
		j.Dir = "/"
	}
	if err := os.Chdir(j.Dir); err != nil {
		return err
	}
	program, err := exec.LookPath(j.Argv[0])
	if err != nil {
		return err
	}
	if err := assume(j); err != nil {
		return err
	}
	return fmt.Errorf("run %s: %w", program, syscall.Exec(program, j.Argv, j.Env))
}

// assume takes on the user and group of the job, and dies with whoever started it.
func assume(j job) error {
	if j.Group != nil {
		if err := syscall.Setgid(int(*j.Group)); err != nil {
			return fmt.Errorf("become group %d: %w", *j.Group, err)
		}
	}
	if j.User != nil {
		if err := syscall.Setuid(int(*j.User)); err != nil {
			return fmt.Errorf("become user %d: %w", *j.User, err)
		}
	}
	// Parent-death signals belong to threads: execve keeps that of the thread that calls it, which need not be the first, and
	// setuid clears it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("arrange to die with the pod: %w", err)
	}
	return nil
}

// enterNew sets up the new container's own view of the file system.
func enterNew(j job) error {
	if err := unix.Sethostname([]byte(j.Hostname)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := bindAll(j.Scratch, j.Binds); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

// enterExisting takes the mount namespace of a running container (file 4).
func enterExisting(job) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("leave our root: %w", err)
	}
	if err := unix.Setns(4, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter the container's mounts: %w", err)
	}
	return nil
}
