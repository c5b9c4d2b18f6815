package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/agent/internal/envoy"
)

// The table of the page is the code's.
func TestReleasesAreOnThePage(t *testing.T) {
	const page = "../docs/explanation/how-a-drain-works.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range envoy.Releases() {
		if row := fmt.Sprintf("| %d.%d | %s | %s | %s |\n", r.Major, r.Minor, r.Idle, r.Streams, r.Short); !strings.Contains(string(text), row) {
			t.Errorf("%s lacks %s", page, row)
		}
	}
}
