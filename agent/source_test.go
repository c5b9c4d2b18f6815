package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestProbeSource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in-flight")
	if err := os.WriteFile(path, []byte("3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code := command([]string{"probe-source", "file:" + path}, &out, &out); code != 0 || !strings.HasPrefix(out.String(), "3 in flight (read in ") {
		t.Errorf("exit code %d: %s", code, out.String())
	}
	for _, tt := range []struct{ spec, want string }{
		{"preset:nginx@http://127.0.0.1:1", "connection refused"},
		{"preset:nginks@http://127.0.0.1:1", "no preset \"nginks\": want "},
		{"http://127.0.0.1:1/metrics", "unknown kind \"http\": want "},
		{"prometheus:http://127.0.0.1:1/metrics", "want name{label=\"value\"} after the #"},
		{"text:http://127.0.0.1:1/#Busy", "with the number in parentheses after the #"},
		{"file:relative", "is no absolute path"},
		{"none", "nothing is read"},
	} {
		out.Reset()
		if code := command([]string{"probe-source", tt.spec}, &out, &out); (code == 0) != (tt.spec == "none") || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%s: exit code %d: %s", tt.spec, code, out.String())
		}
	}
	out.Reset()
	if code := command([]string{"probe-source", "file:" + path + "-gone"}, &out, &out); code != exitUsage || !strings.Contains(out.String(), "no such file") {
		t.Errorf("exit code %d: %s", code, out.String())
	}
}
