// Package apiserver finds the programs of a real API server for tests.
package apiserver

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// Programs is a folder with etcd, kube-apiserver and kubectl. The test is skipped where there are none: scripts/cluster/cluster build
// compiles them.
func Programs(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("KUBEBUILDER_ASSETS"); dir != "" {
		return dir
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	built, _ := filepath.Glob(filepath.Join(cache, "drain-agent/cluster/kubernetes-v*/kube-apiserver")) // the pattern is ours
	built = slices.DeleteFunc(built, func(at string) bool {                                             // one that is being compiled
		_, err := os.Stat(filepath.Join(filepath.Dir(at), "kubectl"))
		return err != nil
	})
	etcd, err := exec.LookPath("etcd")
	if len(built) == 0 || err != nil {
		t.Skip("no kube-apiserver or etcd here: KUBEBUILDER_ASSETS names a folder with them, scripts/cluster/cluster build compiles them")
	}
	last := filepath.Dir(built[len(built)-1])
	dir := filepath.Join(cache, "drain-agent", "apiserver-"+filepath.Base(last)) // it outlives the test: a server may be started again
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]string{"etcd": etcd, "kube-apiserver": filepath.Join(last, "kube-apiserver"), "kubectl": filepath.Join(last, "kubectl")} {
		if err := os.Symlink(at, filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
	return dir
}
