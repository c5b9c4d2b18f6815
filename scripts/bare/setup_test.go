// Package bare holds tests of what a stranger's machine needs: the packages that README asks for, those that set-up installs,
// and `go install` without a checkout.
package bare

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What README asks for is, word for word, all that scripts/fresh-machine gets.
func TestREADMEAsksForWhatTheFreshMachineGets(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	asked := regexp.MustCompile("`apt-get install ([^`]+)`").FindSubmatch(readme)
	if asked == nil {
		t.Fatal("README names no packages as `apt-get install …`")
	}
	out, err := exec.CommandContext(t.Context(), "../fresh-machine", "--packages-asked").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != string(asked[1]) {
		t.Errorf("scripts/fresh-machine gets %q, README asks for %q", got, asked[1])
	}
}

// The demo installs nothing that only tests need, and nothing in a list is asked for twice.
func TestEachTargetAsksOnlyForWhatItUses(t *testing.T) {
	demo := setUp(t, "--list", "demo")
	for _, heavy := range []string{"gcc", "postgresql", "chromium", "prometheus", "iptables"} {
		if strings.Contains(demo, heavy) {
			t.Errorf("make demo asks for %s", heavy)
		}
		if !strings.Contains(setUp(t, "--list", "test"), heavy) {
			t.Errorf("make test does not ask for %s", heavy)
		}
	}
}

func setUp(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "../setup", args...).Output()
	if err != nil {
		t.Fatalf("setup %v: %v", args, err)
	}
	return string(out)
}

// Who is not root gets one message that names all that is missing, and the one command that installs it.
func TestWithoutRootAllThatIsMissingIsNamedAtOnce(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() // a machine with Go and apt-get, and nothing else
	for name, says := range map[string]string{"id": "1000", "apt-get": "apt", "go": "go1.26"} {
		if err := os.WriteFile(filepath.Join(path, name), []byte("#!"+bash+"\necho "+says+"\n"), 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	for target, want := range map[string][]string{
		"demo":  {"python3", "python3-venv"},
		"test":  {"python3", "python3-venv", "git", "gcc", "prometheus", "iptables", "chromium"},
		"check": {"git", "curl"},
		"ci":    {"git", "curl", "make", "debootstrap"},
	} {
		cmd := exec.CommandContext(t.Context(), bash, "../setup", target)
		cmd.Env = []string{"PATH=" + path}
		out, err := cmd.CombinedOutput()
		_, command, found := strings.Cut(string(out), "sudo apt-get install --no-install-recommends ")
		if err == nil || !found {
			t.Errorf("%s: %v, want a failure that names the command: %s", target, err, out)
		}
		for _, name := range want {
			if !strings.Contains(" "+strings.TrimSpace(command)+" ", " "+name+" ") {
				t.Errorf("%s: %s is not in the command: %s", target, name, out)
			}
		}
	}
}
