//go:build e2e

package e2e

import (
	"os"
	"testing"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

func TestMain(m *testing.M) {
	pod.Helper()
	os.Exit(m.Run())
}
