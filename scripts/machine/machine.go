// Package machine says where something was measured, for the pages of figures.
package machine

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
)

var model = regexp.MustCompile(`(?m)^model name\s*: (.*)$`)

// Name is how many cores of which processor this machine has, and its system: "2 cores (AMD EPYC), linux".
func Name() string {
	name := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if found := model.FindSubmatch(text); found != nil {
			name = string(found[1])
		}
	}
	return fmt.Sprintf("%d cores (%s), %s", runtime.NumCPU(), name, runtime.GOOS)
}

// Load is the number of processes that want a processor, on average of the last minute; "unknown" where the system does not say.
func Load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	average, _, _ := strings.Cut(string(text), " ")
	return average
}
