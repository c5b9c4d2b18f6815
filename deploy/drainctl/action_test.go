package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	"sigs.k8s.io/yaml"
)

const action = "../../.github/actions/drainctl-lint"

// The action as a workflow would run it: its script, with its inputs.
func TestAction(t *testing.T) {
	script, err := filepath.Abs(action + "/run")
	if err != nil {
		t.Fatal(err)
	}
	inFolder(t, map[string]string{"a b.yaml": twoWebs, "silences.yaml": "lint: {silence: [{rule: sleep-over-grace, reason: nginx ends by itself}]}\n"})
	act := func(env ...string) (int, string) {
		cmd := exec.CommandContext(t.Context(), script)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if exit, is := errors.AsType[*exec.ExitError](err); is {
			return exit.ExitCode(), string(out)
		} else if err != nil {
			t.Fatal(err)
		}
		return 0, string(out)
	}
	code, out := act("FILES=a b.yaml\n", "FAIL_ON=error", "SARIF=found.sarif")
	if code != exitFindings || !strings.Contains(out, "::error file=a b.yaml,line=12,title=drainctl sleep-over-grace") || strings.Contains(out, "::notice") {
		t.Errorf("%d\n%s", code, out)
	}
	if report, err := sarif.Open("found.sarif"); err != nil || len(report.Runs[0].Results) != 4 {
		t.Errorf("sarif: %v", err)
	}
	if code, out := act("FILES=a b.yaml", "FAIL_ON=error", "CONFIG=silences.yaml", "ADVICE=true"); code != exitOK || !strings.Contains(out, "::notice") {
		t.Errorf("silenced, with advice: %d\n%s", code, out)
	}
	if code, out := act("FILES=nowhere", "SARIF=found.sarif"); code != exitUsage || !strings.Contains(out, "nowhere") {
		t.Errorf("a file that is missing: %d\n%s", code, out)
	}
}

func TestActionsInputsReachItsScript(t *testing.T) {
	var file struct {
		Inputs map[string]struct{ Description string }
		Runs   struct {
			Using string
			Steps []struct {
				Run string
				Env map[string]string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(readText(t, action+"/action.yml")), &file); err != nil {
		t.Fatal(err)
	}
	step, script := file.Runs.Steps[len(file.Runs.Steps)-1], readText(t, action+"/run")
	if file.Runs.Using != "composite" || step.Run != "${{ github.action_path }}/run" || len(step.Env) != len(file.Inputs) || len(file.Inputs) == 0 {
		t.Errorf("%+v", file)
	}
	for variable, value := range step.Env {
		input := strings.TrimSuffix(strings.TrimPrefix(value, "${{ inputs."), " }}")
		if file.Inputs[input].Description == "" || !strings.Contains(script, "$"+variable) && !strings.Contains(script, "${"+variable) {
			t.Errorf("%s: %s: no such input, or the script does not use it", variable, value)
		}
	}
}
