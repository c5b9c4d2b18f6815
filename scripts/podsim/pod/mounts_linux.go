package pod

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// bind is a folder or file of the machine that a container sees at Target.
type bind struct {
	Source, Target string
	ReadOnly       bool
}

// root builds a container's view: the machine's files, with binds put over them. Where a target does not exist yet, its
// parent is replaced by a mimic, a tmpfs with the parent's entries bound into it, so that nothing is left on the machine.
type root struct {
	scratch string
	ours    map[string]bool // folders that may be written
	volumes []string
}

// bindAll makes the binds in order. Sources are opened first, because a bind may hide the source of a later one.
func bindAll(scratch string, binds []bind) error {
	r := &root{scratch: scratch, ours: map[string]bool{}}
	var sources []*os.File
	for _, b := range binds {
		source, err := os.OpenFile(b.Source, unix.O_PATH, 0)
		if err != nil {
			return fmt.Errorf("mount %s: %w", b.Target, err)
		}
		defer source.Close()
		sources = append(sources, source)
	}
	for i, b := range binds {
		if err := r.bind(sources[i], b); err != nil {
			return fmt.Errorf("mount %s: %w", b.Target, err)
		}
	}
	return nil
}

func (r *root) bind(source *os.File, b bind) error {
	info, err := source.Stat()
	if err != nil {
		return err
	}
	target := filepath.Clean(b.Target)
	if err := r.ensure(target, info.IsDir()); err != nil {
		return err
	}
	if err := bindMount(descriptor(source), target); err != nil {
		return err
	}
	if b.ReadOnly {
		return unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	if info.IsDir() {
		r.volumes = append(r.volumes, target)
	}
	return nil
}

// ensure makes the path exist, as a folder or as an empty file.
func (r *root) ensure(path string, folder bool) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	parent := filepath.Dir(path)
	if err := r.ensure(parent, true); err != nil {
		return err
	}
	parent, err := filepath.EvalSymlinks(parent)
	if err != nil {
		return err
	}
	if !r.writable(parent) {
		if err := r.mimic(parent); err != nil {
			return fmt.Errorf("make room in %s: %w", parent, err)
		}
	}
	path = filepath.Join(parent, filepath.Base(path))
	if !folder {
		return os.WriteFile(path, nil, 0o666)
	}
	r.ours[path] = true
	return os.Mkdir(path, 0o755)
}

func (r *root) writable(path string) bool {
	if r.ours[path] {
		return true
	}
	for _, volume := range r.volumes {
		if strings.HasPrefix(path+"/", volume+"/") {
			return true
		}
	}
	return false
}

func (r *root) mimic(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	r.ours[path] = true
	if path == "/" {
		return r.mimicRoot(entries)
	}
	original, err := os.OpenFile(path, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer original.Close()
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	return copyEntries(descriptor(original), entries, path)
}

// mimicRoot cannot mount over the root, so it moves a new one there.
func (r *root) mimicRoot(entries []os.DirEntry) error {
	if err := unix.Mount("tmpfs", r.scratch, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	if err := unix.Mount("", r.scratch, "", unix.MS_UNBINDABLE, ""); err != nil { // or it would contain itself
		return err
	}
	if err := copyEntries("/", entries, r.scratch); err != nil {
		return err
	}
	if err := os.Chdir(r.scratch); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	return unix.Chroot(".")
}

// copyEntries puts each entry of one folder into another: symbolic links again, everything else bound.
func copyEntries(from string, entries []os.DirEntry, to string) error {
	for _, entry := range entries {
		source, target := filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())
		var err error
		switch {
		case entry.Type()&os.ModeSymlink != 0:
			var link string
			if link, err = os.Readlink(source); err == nil {
				err = os.Symlink(link, target)
			}
		case entry.IsDir():
			if err = os.Mkdir(target, 0o755); err == nil {
				err = bindMount(source, target)
			}
		default:
			if err = os.WriteFile(target, nil, 0o600); err == nil {
				err = bindMount(source, target)
			}
		}
		if err != nil && !os.IsNotExist(err) { // an entry may vanish meanwhile
			return err
		}
	}
	return nil
}

func bindMount(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return &os.PathError{Op: "bind", Path: target, Err: err}
	}
	return nil
}

func descriptor(file *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", file.Fd()) }
