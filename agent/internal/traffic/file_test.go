package traffic

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// replace writes a file the way careful programs do: under another name, then renamed.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	must(t, os.Rename(path+".new", path))
}

func TestFileContents(t *testing.T) {
	for text, want := range map[string]struct {
		n   int64
		err string
	}{
		"0\n":                    {0, ""},
		"12\n":                   {12, ""},
		" 7 \n\n":                {7, ""},
		"12":                     {0, "half written"},
		"0":                      {0, "half written"},
		"":                       {0, "half written"},
		"\n":                     {0, "no number"},
		"-1\n":                   {0, "no number"},
		"+1\n":                   {0, "no number"},
		"1.5\n":                  {0, "no number"},
		"02\n":                   {0, "no number"}, // "0" written over "12\n", the newline still to come
		"9\n3\n":                 {0, "no number"},
		"zero\n":                 {0, "no number"},
		"99999999999999999999\n": {0, "no number"},
		"0" + string(make([]byte, maxFile)) + "\n": {0, "too large"},
	} {
		path := filepath.Join(t.TempDir(), "n")
		write(t, path, text)
		checkRead(t, source(t, "file:"+path), want.n, want.err)
	}
}

func TestFileIsFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in-flight")
	s := source(t, "file:"+path)
	checkRead(t, s, 0, "no such file")
	replace(t, path, "3\n")
	checkRead(t, s, 3, "")
	replace(t, path, "2\n")
	checkRead(t, s, 2, "")
	write(t, path, "1")
	checkRead(t, s, 0, "half written")
	write(t, path, "1\n")
	checkRead(t, s, 1, "")
	must(t, os.Remove(path))
	checkRead(t, s, 0, "no such file")
	write(t, path, "0\n")
	checkRead(t, s, 0, "")
}

// A link may lead to a directory that is not watched: no event comes, the file's own signs have to do.
func TestFileBehindALink(t *testing.T) {
	path, target := filepath.Join(t.TempDir(), "link"), filepath.Join(t.TempDir(), "in-flight")
	write(t, target, "3\n")
	must(t, os.Symlink(target, path))
	s := source(t, "file:"+path)
	checkRead(t, s, 3, "")
	checkRead(t, s, 3, "")
	replace(t, target, "2\n")
	checkRead(t, s, 2, "")
	write(t, target, "10\n")
	checkRead(t, s, 10, "")
}

// Within one tick of the kernel's clock a second write of the same length leaves identity, size and time alone:
// only the event tells. The time is put back here to make every round such a case.
func TestFileChangeThatOnlyTheEventShows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in-flight")
	write(t, path, "9\n")
	first, err := os.Stat(path)
	must(t, err)
	s := source(t, "file:"+path)
	checkRead(t, s, 9, "")
	for want := range int64(9) {
		write(t, path, strconv.FormatInt(want, 10)+"\n")
		must(t, os.Chtimes(path, first.ModTime(), first.ModTime()))
		eventually(t, "the change is read", func() bool {
			n, err := s.Read(t.Context())
			return err == nil && n.N == want
		})
	}
}

// Without a watch, or after the watched directory went away, each read goes to the file.
func TestFileWithoutEvents(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volume")
	path := filepath.Join(dir, "in-flight")
	s, err := ParseSource("file:" + path)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	if err := s.Open(); err == nil {
		t.Error("opened a source in a directory that is not there")
	}
	checkRead(t, s, 0, "no such file")
	must(t, os.Mkdir(dir, 0o700))
	write(t, path, "9\n")
	checkRead(t, s, 9, "")
	must(t, s.Open())

	must(t, os.RemoveAll(dir))
	must(t, os.Mkdir(dir, 0o700))
	write(t, path, "4\n")
	first, err := os.Stat(path)
	must(t, err)
	eventually(t, "the loss of the watch is noticed", func() bool {
		write(t, path, "4\n")
		must(t, os.Chtimes(path, first.ModTime(), first.ModTime()))
		a, errA := s.Read(t.Context())
		write(t, path, "5\n")
		must(t, os.Chtimes(path, first.ModTime(), first.ModTime()))
		b, errB := s.Read(t.Context())
		return errA == nil && errB == nil && a.N == 4 && b.N == 5
	})
}

func TestFileAnnouncesChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in-flight")
	s := source(t, "file:"+path)
	for _, change := range []func(){
		func() { replace(t, path, "3\n") },
		func() { write(t, path, "2\n") },
		func() { must(t, os.Remove(path)) },
	} {
		select {
		case <-s.Changed(): // left from before
		default:
		}
		change()
		<-s.Changed()
	}
}

// kubelet updates ConfigMap volumes through a link ..data that is renamed from one directory to the next.
func TestFileInAConfigMap(t *testing.T) {
	dir := t.TempDir()
	swap := func(version, text string) {
		must(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		write(t, filepath.Join(dir, version, "in-flight"), text)
		must(t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	swap("..1", "3\n")
	must(t, os.Symlink("..data/in-flight", filepath.Join(dir, "in-flight")))
	s := source(t, "file:"+filepath.Join(dir, "in-flight"))
	checkRead(t, s, 3, "")
	swap("..2", "2\n")
	checkRead(t, s, 2, "")
	must(t, os.RemoveAll(filepath.Join(dir, "..1")))
	checkRead(t, s, 2, "")
	swap("..3", "0\n")
	checkRead(t, s, 0, "")
	must(t, os.RemoveAll(filepath.Join(dir, "..3")))
	checkRead(t, s, 0, "no such file")
}

func TestFileThatIsNone(t *testing.T) {
	checkRead(t, source(t, "file:"+t.TempDir()), 0, "no regular file")
	pipe := filepath.Join(t.TempDir(), "pipe")
	must(t, unix.Mkfifo(pipe, 0o600))
	checkRead(t, source(t, "file:"+pipe), 0, "no regular file")
}
