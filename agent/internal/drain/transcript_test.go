package drain

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the transcripts; commit a difference only when you can explain it")

// TestTranscripts plays the scripts in testdata/transcripts and compares what happened, line by line. A script is the part above
// the line "----": one "TIME COMMAND ARGUMENT" a line.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("find transcripts: %v, %d files", err, len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			script, want, _ := strings.Cut(string(data), "----\n")
			got := play(t, script)
			if *update {
				if err := os.WriteFile(file, []byte(script+"----\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func play(t *testing.T, script string) string {
	t.Helper()
	w := newWorld(Defaults())
	w.signals = true
	w.check = func(w *world, _ Decision, broken string) {
		if broken != "" {
			t.Fatalf("at %v: %s\n%s", w.now, broken, w.log.String())
		}
	}
	for line := range strings.Lines(script) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] == "#" {
			continue
		}
		at, err := time.ParseDuration(fields[0])
		if err != nil {
			t.Fatalf("read %q: %v", line, err)
		}
		w.run(at, nil)
		argument := ""
		if len(fields) > 2 {
			argument = fields[2]
		}
		command(t, w, fields[1], argument)
	}
	w.run(w.now+90*sec, nil)
	return w.log.String()
}

func command(t *testing.T, w *world, name, argument string) {
	t.Helper()
	count := func() Count {
		if n, err := strconv.ParseInt(argument, 10, 64); err == nil {
			return Known(n)
		}
		return Count{}
	}
	id := w.p.Find(argument)
	switch name {
	case "hook":
		w.hook(id)
	case "hooks":
		w.stop()
	case "sigterm":
		w.sigterm()
	case "classic":
		w.p.Hooks = 0b011
	case "app":
		w.app = count()
	case "proxy":
		w.proxy = count()
	case "connection":
		w.newConns, w.rqs = Known(w.newConns.N+1), Known(w.rqs.N+1)
	case "dies":
		w.live[id] = Gone
	case "stuck":
		w.endsAfter[id] = -1
	case "drain":
		w.send(Input{Kind: AskedDrain})
	case "undrain":
		w.send(Input{Kind: AskedUndrain})
	default:
		t.Fatalf("no command %q", name)
	}
}
