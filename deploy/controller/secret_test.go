package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong with a flag is said without the secret that it may hold.
func TestNoErrorRepeatsASecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store")
	if err := os.WriteFile(file, []byte("postgres://u:s3cr3t@h:x/s3cr3t?password=s3cr3t"), 0o600); err != nil {
		t.Fatal(err)
	}
	const with = "http://u:s3cr3t@h/s3cr3t?s3cr3t"
	for _, args := range [][]string{
		{"--agent-image=a:1", "--default=preset=" + with},
		{"--agent-image=a:1", "--default=poll=" + with},
		{"--agent-image=a:1", "--default=" + with},
		{"--agent-image=a:1", with},
		{"--agent-image=a:1", "--port=" + with},
		{"--agent-image=a:1", "--secret=" + with},
		{"--agent-image=a:1", "--store=postgres://u:s3cr3t@h:x/s3cr3t?password=s3cr3t"},
		{"--agent-image=a:1", "--store=s3cr3t"},
		{"--agent-image=a:1", "--store=" + with},
		{"--agent-image=a:1", "--store=file:" + file},
	} {
		t.Setenv("KUBECONFIG", "/nowhere")
		var out, said bytes.Buffer
		if code := command(args, &out, &said); code != 1 || said.Len() == 0 {
			t.Errorf("%q: exit code %d, %s", args, code, said.String())
		}
		if all := out.String() + said.String(); strings.Contains(all, "s3cr3t") {
			t.Errorf("%q: %s", args, all)
		}
	}
}
