package pod

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sandbox is what a pause container holds: the namespaces that a pod's containers share. It has no name in the file
// system, so nothing of it outlives its processes, and they die with this one.
type sandbox struct {
	ip    netip.Addr
	pause *exec.Cmd
	stop  io.Closer
	netns *os.File
	pidns *os.File
	link  string
}

// addresses are taken from 198.18.0.0/15 (set aside for benchmarks of networks by RFC 2544), two per pod.
const linkPrefix = "podsim"

// newSandbox makes the namespaces and a veth pair between the pod and this process. It fails where a container could not be
// started either: without root, without the right to namespaces, and in a chroot, which can have no mounts of its own.
func newSandbox(name string) (*sandbox, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("make namespaces: %w: not root", os.ErrPermission)
	}
	s := &sandbox{}
	if err := s.start(name); err != nil {
		s.close()
		return nil, fmt.Errorf("make the pod's sandbox: %w", err)
	}
	return s, nil
}

func (s *sandbox) start(name string) error {
	s.pause = &exec.Cmd{Path: "/proc/self/exe", Args: []string{helperPause, name}, Env: []string{}, Stderr: os.Stderr}
	s.pause.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
		Setpgid:    true, // Ctrl-C in a terminal is ours to handle
	}
	in, err := s.pause.StdinPipe()
	if err != nil {
		return err
	}
	s.stop = in
	out, err := s.pause.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.pause.Start(); err != nil {
		return err
	}
	if s.netns, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", s.pause.Process.Pid)); err != nil {
		return err
	}
	if s.pidns, err = os.Open(fmt.Sprintf("/proc/%d/ns/pid", s.pause.Process.Pid)); err != nil {
		return err
	}
	host, err := s.connect()
	if err != nil {
		return err
	}
	fmt.Fprintf(in, "%s %s\n", s.ip, host)
	answer, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("hear from the pause process: %w", err)
	}
	if answer = strings.TrimSpace(answer); answer != "ok" {
		return errors.New(answer)
	}
	return nil
}

// connect makes the veth pair. The name of its end here carries the number of the address pair: the kernel refuses a
// name twice, which keeps pods of several programs apart.
func (s *sandbox) connect() (host netip.Addr, err error) {
	for range 100 {
		n := rand.N(1 << 16)
		attrs := netlink.NewLinkAttrs()
		attrs.Name = fmt.Sprintf("%s%04x", linkPrefix, n)
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsPid(s.pause.Process.Pid)}
		if err = netlink.LinkAdd(veth); errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return host, fmt.Errorf("add veth: %w", err)
		}
		s.link = attrs.Name
		base := 198<<24 | 18<<16 | 2*n
		host = netip.AddrFrom4([4]byte{byte(base >> 24), byte(base >> 16), byte(base >> 8), byte(base)})
		s.ip = host.Next()
		return host, setAddress(attrs.Name, host)
	}
	return host, fmt.Errorf("find a free address pair: %w", err)
}

// setAddress gives a link its address in a network of two, and brings it up.
func setAddress(name string, address netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	network := &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(31, 32)}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: network}); err != nil {
		return fmt.Errorf("give %s the address %s: %w", name, address, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}

func (s *sandbox) close() {
	if s.stop != nil {
		s.stop.Close()
	}
	if s.pause != nil && s.pause.Process != nil {
		_ = s.pause.Process.Kill()
		_ = s.pause.Wait()
	}
	if link, err := netlink.LinkByName(s.link); s.link != "" && err == nil {
		_ = netlink.LinkDel(link) // the kernel does it too, a little later
	}
	for _, file := range []*os.File{s.netns, s.pidns} {
		if file != nil {
			file.Close()
		}
	}
}

// command returns the helper's command line that becomes the container's process.
func (s *sandbox) command(p *Pod, c *container, program string, argv []string, env map[string]string) (*exec.Cmd, error) {
	job := job{Hostname: p.manifest.Name, Scratch: p.path("root"), Dir: c.spec.WorkingDir}
	for _, m := range c.spec.VolumeMounts {
		job.Binds = append(job.Binds, bind{Source: p.source(m), Target: m.MountPath, ReadOnly: m.ReadOnly})
	}
	job.Binds = append(job.Binds, bind{Source: p.messageFile(c), Target: c.spec.TerminationMessagePath})
	switch {
	case program == "":
		if !onVolume(c, argv[0]) {
			if _, err := exec.LookPath(argv[0]); err != nil {
				return nil, fmt.Errorf("image %s: %w (%v)", c.spec.Image, errImageMissing, err)
			}
		}
	case filepath.IsAbs(argv[0]):
		job.Binds = append(job.Binds, bind{Source: program, Target: argv[0]})
	default:
		job.Binds = append(job.Binds, bind{Source: program, Target: filepath.Join(imageBin, filepath.Base(argv[0]))})
		env["PATH"] = imageBin + ":" + env["PATH"]
	}
	job.User, job.Group = identity(p.manifest, c)
	job.Argv, job.Env = argv, list(env)
	flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWUTS)
	if !p.sharesProcesses() {
		flags |= unix.CLONE_NEWPID
	}
	return s.helper(helperContainer, job, flags, s.netns, nil) // awaitExec puts its pipe there
}

// imageBin is where a mapped program lies for a container whose command has no path.
const imageBin = "/podsim/bin"

func onVolume(c *container, path string) bool {
	for _, m := range c.spec.VolumeMounts {
		if strings.HasPrefix(path, strings.TrimSuffix(m.MountPath, "/")+"/") {
			return true
		}
	}
	return false
}

func (s *sandbox) helper(name string, job job, flags uintptr, files ...*os.File) (*exec.Cmd, error) {
	text, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{name, string(text)}, Env: []string{}, ExtraFiles: files,
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: flags, Setpgid: true},
	}
	if flags&unix.CLONE_NEWPID != 0 {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // members of an existing PID namespace die with its first process
	}
	return cmd, nil
}

// startProcess starts a container's command; with shareProcessNamespace in the PID namespace of the pause process.
func (p *Pod) startProcess(cmd *exec.Cmd) error {
	if p.sandbox == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
		return cmd.Start()
	}
	if cmd.Args[0] != helperContainer {
		return cmd.Start()
	}
	start := cmd.Start
	if p.sharesProcesses() {
		start = func() error { return startIn(p.sandbox.pidns, cmd) }
	}
	return awaitExec(cmd, start)
}

// awaitExec starts a container's helper and returns when it has become the container's program, so that no signal
// meets the helper. It fails with what kept it from that.
func awaitExec(cmd *exec.Cmd, start func() error) error {
	report, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer report.Close()
	cmd.ExtraFiles[1] = theirs
	err = start()
	theirs.Close()
	if err != nil {
		return err
	}
	trouble, err := io.ReadAll(report) // ends at execve, which closes their end, or with the helper
	if err == nil && len(trouble) == 0 {
		return nil
	}
	_ = cmd.Wait() // it exits with startFailed
	return fmt.Errorf("%s: %w", trouble, errors.Join(errNotStarted, err))
}

var errNotStarted = errors.New("the container's program was not run")

// join returns the command that runs argv inside a running container, and starts it there.
func (s *sandbox) join(job job, pid int, cmd *exec.Cmd) error {
	pidns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return fmt.Errorf("enter the container: %w", err)
	}
	defer pidns.Close()
	mnt, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return fmt.Errorf("enter the container: %w", err)
	}
	defer mnt.Close()
	helper, err := s.helper(helperExec, job, 0, s.netns, mnt)
	if err != nil {
		return err
	}
	cmd.Path, cmd.Args, cmd.Env, cmd.ExtraFiles, cmd.SysProcAttr, cmd.Err = helper.Path, helper.Args, helper.Env, helper.ExtraFiles, helper.SysProcAttr, nil
	return startIn(pidns, cmd)
}

// startIn starts a command as a member of a PID namespace: a thread's children enter the one it has joined.
func startIn(pidns *os.File, cmd *exec.Cmd) error {
	runtime.LockOSThread()
	own, err := os.Open("/proc/self/ns/pid")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer own.Close()
	if err := unix.Setns(int(pidns.Fd()), unix.CLONE_NEWPID); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter the PID namespace: %w", err)
	}
	startErr := cmd.Start()
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWPID); err != nil {
		return fmt.Errorf("return to our PID namespace: %w", err) // the thread stays locked: nobody may fork from it
	}
	runtime.UnlockOSThread()
	return startErr
}
