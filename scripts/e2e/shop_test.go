//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

// What a new user does: one command on a directory of manifests as public demonstrations write them, each with an Envoy beside its
// service, and nothing else. All of them are rolled out at the same time and lose nothing.
func TestShop(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "shop")
	if err := os.CopyFS(dir, os.DirFS("testdata/shop")); err != nil {
		t.Fatal(err)
	}
	drainctl(t, nil, "inject", "-f", dir, "-w")
	for _, name := range []string{"frontend", "checkout", "reviews"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join(dir, name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			w := parse(t, text, namespace(t, "baseline"))
			w.proxy = "envoy"
			r := roll(t, w, 1, func(p *openloop.Plan) { p.Rate, p.Slow = 30, 20 })
			drained(t, w, r)
		})
	}
}
