package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/drain-agent/drain-agent/scripts/synced"
)

// A program whose wall clock jumps while the machine's does not: each of its questions for the time goes through the process that
// started it (seccomp's user notification), which answers with the machine's time and what SIGUSR1 and SIGUSR2 added to it. faketime
// cannot do that to a static program.

const jump = time.Hour

// jumped moves the agent's wall clock and waits until its timeline shows that.
func jumped(sig syscall.Signal) func(context.Context, *played) error {
	return func(ctx context.Context, p *played) error {
		if err := p.Signal("agent", sig); err != nil {
			return err
		}
		return synced.Until(ctx, "a time in the log that is an hour off", func() bool {
			return slices.ContainsFunc(p.events(), func(e event) bool { return time.Since(e.Time).Abs() > jump/2 })
		})
	}
}

// clocked starts the program, moves its clock when told, hands other signals on, and ends as it ended.
func clocked(argv []string) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a pair of sockets: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "listener")
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", append([]string{"wrap", "clock-inside"}, argv...)...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, []*os.File{theirs}
	runtime.LockOSThread() // the program is killed with the thread that started it
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", argv[0], err)
	}
	theirs.Close()
	listener, err := receive(pair[0])
	if err != nil {
		return errors.Join(err, cmd.Wait())
	}
	var offset atomic.Int64
	go tellTime(listener, &offset)
	go func() {
		for s := range signals {
			switch s {
			case syscall.SIGUSR1:
				offset.Add(int64(jump))
			case syscall.SIGUSR2:
				offset.Add(-int64(jump))
			default:
				_ = cmd.Process.Signal(s)
			}
		}
	}()
	_ = cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		os.Exit(128 + int(status.Signal()))
	}
	os.Exit(cmd.ProcessState.ExitCode())
	return nil
}

// insideClock becomes the program, after it put its questions for the wall clock under the starter's eyes.
func insideClock(argv []string) error {
	program, err := os.ReadFile(argv[0])
	if err != nil {
		return fmt.Errorf("read the program: %w", err)
	}
	for _, name := range []string{"__vdso_clock_gettime", "__kernel_clock_gettime"} { // not found, Go asks the kernel itself
		program = bytes.ReplaceAll(program, []byte(name), append([]byte("XX"), name[2:]...))
	}
	image, err := unix.MemfdCreate("program", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make a file in memory: %w", err)
	}
	if _, err := os.NewFile(uintptr(image), "program").Write(program); err != nil {
		return fmt.Errorf("write the program: %w", err)
	}
	runtime.LockOSThread()
	listener, err := watchClock()
	if err != nil {
		return err
	}
	const theirs = 3
	if err := unix.Sendmsg(theirs, []byte{0}, unix.UnixRights(listener), nil, 0); err != nil {
		return fmt.Errorf("hand over the listener: %w", err)
	}
	unix.CloseOnExec(theirs)
	return syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", image), argv, os.Environ())
}

// watchClock makes the kernel ask somebody else whenever this thread, or what it becomes, wants the wall clock, and returns where it asks.
func watchClock() (listener int, err error) {
	const number, firstArgument = 0, 16 // where struct seccomp_data has them
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLOCK_GETTIME, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: firstArgument},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.CLOCK_REALTIME, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("give up new privileges: %w", err)
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return 0, fmt.Errorf("watch questions for the clock: %w", errno)
	}
	return int(fd), nil
}

func receive(socket int) (fd int, err error) {
	space := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), space, 0)
	if err != nil {
		return 0, fmt.Errorf("take over the listener: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(space[:n])
	if err != nil || len(messages) != 1 {
		return 0, fmt.Errorf("take over the listener: the program ended before it gave one: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return 0, fmt.Errorf("take over the listener: %w", err)
	}
	return fds[0], nil
}

// The kernel's struct seccomp_notif and struct seccomp_notif_resp.
type (
	question struct {
		id         uint64
		pid, flags uint32
		number     int32
		arch       uint32
		pointer    uint64
		arguments  [6]uint64
	}
	answer struct {
		id    uint64
		value int64
		errno int32
		flags uint32
	}
)

// tellTime answers the program's questions until it is gone.
func tellTime(listener int, offset *atomic.Int64) {
	for {
		var q question
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&q))); errno != 0 {
			if errno == unix.EINTR || errno == unix.ENOENT {
				continue
			}
			return
		}
		at := unix.NsecToTimespec(time.Now().UnixNano() + offset.Load())
		a := answer{id: q.id}
		local := unix.Iovec{Base: (*byte)(unsafe.Pointer(&at)), Len: uint64(unsafe.Sizeof(at))}
		remote := unix.RemoteIovec{Base: uintptr(q.arguments[1]), Len: int(unsafe.Sizeof(at))}
		if _, err := unix.ProcessVMWritev(int(q.pid), []unix.Iovec{local}, []unix.RemoteIovec{remote}, 0); err != nil {
			a.errno = -int32(unix.EFAULT)
		}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&a)))
	}
}
