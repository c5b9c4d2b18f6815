package conductor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// journal is a file that says what was done to Envoy that can be undone, so that the next agent process can undo or resume it. It is
// replaced as a whole, and removed when nothing is in force.
type journal struct {
	path string
	mu   sync.Mutex
	now  entry
}

type entry struct {
	Time         time.Time `json:"time"`
	Epoch        string    `json:"envoy"` // the Envoy process it was done to
	HealthFailed bool      `json:"health_failed"`
	Maintenance  bool      `json:"maintenance"`
}

// load returns what an earlier process did to the Envoy of this epoch. Maintenance is the operator's wish and outlives Envoys. What
// was done to an Envoy of unknown epoch is handed over when epoch is "" too: an undo too many does no harm. The error says that
// there is a journal but no way to read it.
func (j *journal) load(epoch string) (drain.Journal, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.path == "" {
		return drain.Journal{}, nil
	}
	data, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return drain.Journal{}, nil
	}
	var e entry
	if err == nil {
		err = json.Unmarshal(data, &e)
	}
	if err != nil {
		return drain.Journal{}, fmt.Errorf("what an earlier agent did to envoy is not known and not undone: read journal: %v", err)
	}
	same := e.Epoch == epoch
	j.now = e
	if !same {
		j.now.HealthFailed = false
	}
	return drain.Journal{Maintenance: e.Maintenance, HealthFailed: same && e.HealthFailed}, nil
}

// before writes down what is about to be done.
func (j *journal) before(a drain.Actions, epoch string) error {
	if a != drain.FailHealth {
		return nil
	}
	return j.change(func(e *entry) { e.Epoch, e.HealthFailed = epoch, true })
}

// after writes down that something was undone.
func (j *journal) after(a drain.Actions) error {
	if a != drain.PassHealth {
		return nil
	}
	return j.change(func(e *entry) { e.HealthFailed = false })
}

// maintenance writes down that an operator's drain is in force, or no longer.
func (j *journal) maintenance(on bool) error {
	return j.change(func(e *entry) { e.Maintenance = on })
}

func (j *journal) change(how func(*entry)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	next := j.now
	how(&next)
	if j.path == "" || next == j.now {
		return nil
	}
	if !next.HealthFailed && !next.Maintenance {
		if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove journal: %v", err)
		}
		j.now = next
		return nil
	}
	next.Time = time.Now()
	data, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("write journal: %v", err)
	}
	if err := replace(j.path, data); err != nil {
		return err
	}
	j.now = next
	return nil
}

// replace writes a file so that a reader, or a crash, sees the old content or the new one.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".journal-*")
	if err != nil {
		return fmt.Errorf("write journal: %v", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write journal: %v", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write journal: %v", err)
	}
	return nil
}
