package conductor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// journal is a file that says what was done to Envoy that can be undone, who wants maintenance and how the pod's last stop ended, so that
// the next agent process can undo or resume it. It is replaced as a whole, and removed when nothing is in force.
type journal struct {
	path string
	mu   sync.Mutex
	now  entry
}

type entry struct {
	Time         time.Time `json:"time"`
	Epoch        string    `json:"envoy"` // the Envoy process it was done to
	HealthFailed bool      `json:"health_failed"`
	Maintenance  bool      `json:"maintenance"` // somebody wants it; all that the first edition says of it

	Wanted map[string]string `json:"wanted,omitempty"` // who does, and why
	Ended  string            `json:"ended,omitempty"`  // the outcome of this pod's last verdict
}

// load returns what an earlier process left behind. What it did to an Envoy counts for the Envoy of this epoch only. What was done to
// an Envoy of unknown epoch is handed over when epoch is "" too: an undo too many does no harm. The error says that there is a journal
// but no way to read it.
func (j *journal) load(epoch string) (entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.path == "" {
		return entry{}, nil
	}
	data, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return entry{}, nil
	}
	var e entry
	if err == nil {
		err = json.Unmarshal(data, &e)
	}
	if err != nil {
		return entry{}, fmt.Errorf("what an earlier agent did to envoy is not known and not undone: read journal: %v", err)
	}
	if e.Maintenance && len(e.Wanted) == 0 {
		e.Wanted = map[string]string{intentNames[drain.EarlierAgent]: ""}
	}
	j.now = e
	e.HealthFailed = e.HealthFailed && e.Epoch == epoch
	return e, nil
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

// wanted writes down who wants maintenance.
func (j *journal) wanted(by map[string]string) error {
	return j.change(func(e *entry) { e.Wanted, e.Maintenance = by, len(by) > 0 })
}

// ended writes down how this pod's last stop ended: an agent that is started after it has nothing to tell.
func (j *journal) ended(outcome string) error {
	return j.change(func(e *entry) { e.Ended = outcome })
}

func (j *journal) change(how func(*entry)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	next := j.now
	how(&next)
	if j.path == "" || reflect.DeepEqual(next, j.now) {
		return nil
	}
	if !next.HealthFailed && !next.Maintenance && next.Ended == "" {
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
