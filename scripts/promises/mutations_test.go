package promises

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mutations break the core, one promise each. They must be found by the orders of inputs and by the rules' stories, by the promises alone.
var mutations = []struct{ promise, file, from, to string }{
	{"settledZero", "waits.go", "	case !r.Fresh(s.Now):\n		return Why{Code: unknown, Who: who}", "	case false:\n		return Why{Code: unknown, Who: who}"},
	{"settledZero", "stop.go", "	case !settled:\n", "	case false && !settled:\n"},
	{"settledZero", "waits.go", "		case n > 0:\n			return Why{Code: BytesUnderWay, N: n}", "		case n > 1<<40:\n			return Why{Code: BytesUnderWay, N: n}"},
	{"propagationIsKept", "waits.go", "		case waits[i].Rank == Silence && over:", "		case waits[i].Rank >= Propagation && (over || s.Now >= s.T0+p.QuietMin):"},
	{"itsTurn", "stop.go", "stage < 0 || stage > s.Stage {", "stage < 0 || stage > s.Stage+1 {"},
	{"heldNoLonger", "budget.go", "	b.Hard = p.Grace - b.Margin\n", "	b.Hard = p.Grace\n"},
	{"patienceIsUsed", "stop.go", "	case s.Hard != 0:\n		s.beginStopping", "	case s.Hard < 0:\n		s.beginStopping"},
	{"oneSignalChangesNothing", "alive.go", "	case bits.OnesCount32(uint32(s.facts(p))) >= 2:\n		s.beginStop(p, Why{Code: SecondFact}, d)\n	case s.Finish && held != 0:", "	case bits.OnesCount32(uint32(s.facts(p))) >= 1:\n		s.beginStop(p, Why{Code: SecondFact}, d)\n	case s.Finish && held != 0:"},
	{"restartLeavesNothing", "levers.go", "	d.Do = s.Want &^ s.Asked &^ s.Done\n", "	d.Do = s.Want &^ s.Asked &^ s.Done &^ PassHealth\n"},
	{"irreversibleNeedsProof", "levers.go", "	final := s.Authentic && !s.Lone && s.Facts.Known", "	final := !s.Lone && s.Facts.Known"},
	{"theDeadHoldNobody", "stop.go", "	case s.died(p, proxy):", "	case s.died(p, proxy) && s.Phase == Draining:"},
	{"waitingEnds", "stop.go", "	case s.Now >= s.Since+p.AnnounceMax:", "	case s.Now >= s.Since+2*p.AnnounceMax:"},
	{"waitingEnds", "stop.go", "s.Now >= s.Draining0+p.DrainMax:", "s.Now >= s.Draining0+2*p.DrainMax:"},
	{"waitingEnds", "alive.go", "s.Hooks[who].Called+min(p.RestartMax, p.Budget().Hard):", "s.Hooks[who].Called+2*min(p.RestartMax, p.Budget().Hard):"},
	{"turnsAreTaken", "stop.go", "		return s.stageEnded(p), true\n", "		return s.stageEnded(p), s.Now >= s.StageAt+3*time.Second\n"},
	{"quietMaxEndsSilence", "waits.go", "	over := s.Now >= s.silenceEnd(p)", "	over := s.Now >= s.silenceEnd(p)+p.QuietMax"},
	{"unusedHoldNobody", "waits.go", "	case score > p.AcceptLoss:", "	case score >= 0 && s.openConns().Known:"},
	{"oneVerdict", "finish.go", "		s.undo()\n		d.Verdict = Aborted\n", "		s.undo()\n"},
	{"verdictIsTrue", "finish.go", "		s.Ending, s.Earlier = Deadline, None\n", ""},
	{"verdictIsTrue", "finish.go", "		s.Ending = s.Earlier\n", ""},
	{"verdictIsTrue", "stop.go", "		s.Earlier = None\n", ""},
	{"verdictIsTrue", "finish.go", "	} else if s.atWork(p) != Nobody {\n", "	} else if false {\n"},
	{"verdictInTime", "finish.go", "max(at, s.T0+p.Grace+p.AbortAfter)", "max(at, s.T0+p.Grace+p.AbortAfter+20*time.Second)"},
	{"observeDoesNothing", "levers.go", "	case p.Observe:\n		s.Want = 0", "	case p.Observe:\n		s.Want &= FailHealth | TellApp"},
	{"wishesAreKept", "input.go", "	return s &^ (1 << i)\n", "	return 0\n"},
	{"ownerIsTold", "levers.go", "	return s.Now < s.HandAt+scaled(handoverWithin, b.Scale)", "	return s.Now < s.HandAt"},
	{"workerTold", "step.go", "s.Now >= s.T0+p.confirmWindow() {", "s.Now >= s.T0 {"},
}

const core = "../../agent/internal/drain/"

// TestMutationsAreFound builds the core with each mutation in turn and plays it. Without MUTATIONS=1 it only checks that the mutations
// still fit the code.
func TestMutationsAreFound(t *testing.T) {
	for _, m := range mutations {
		t.Run(m.promise+" in "+m.file, func(t *testing.T) {
			text, err := os.ReadFile(core + m.file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(text), m.from) != 1 {
				t.Fatalf("%s no longer has exactly one\n%s", m.file, m.from)
			}
			if os.Getenv("MUTATIONS") == "" {
				return
			}
			dir := t.TempDir()
			path, err := filepath.Abs(core + m.file)
			if err != nil {
				t.Fatal(err)
			}
			mutant, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
			paths, _ := json.Marshal(map[string]map[string]string{"Replace": {path: mutant}})
			for file, content := range map[string][]byte{mutant: []byte(strings.Replace(string(text), m.from, m.to, 1)), overlay: paths} {
				if err := os.WriteFile(file, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			out, err := exec.CommandContext(t.Context(), "go", "test", "-overlay="+overlay, "-vet=off", "-run", "TestRules|TestBytes|TestExploration|TestWorkers|TestIntents|TestHandOver|TestWaits|TestAged|TestGivenUp", core).CombinedOutput()
			if err == nil {
				t.Fatal("nobody found it")
			}
			found := ""
			for line := range strings.Lines(string(out)) {
				for _, p := range promises {
					if found == "" && strings.Contains(line, p.name+": ") {
						found = strings.TrimSpace(line)
					}
				}
			}
			if found == "" {
				t.Fatalf("no promise found it:\n%s", out[:min(len(out), 1500)])
			}
			t.Log(found)
		})
	}
}
