package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/drain-agent/drain-agent/app/internal/store"
)

// errInconsistent makes `app reconcile` exit with 1 when it leaves something for a person, or has only looked.
var errInconsistent = errors.New("the books are not consistent")

type reconcileCmd struct {
	Store  string `env:"APP_STORE" required:"" help:"sqlite:PATH or postgres://…"`
	DryRun bool   `help:"Look, change nothing, and tell also what was told before."`
}

// Run prints a JSON line per finding and a summary.
func (c *reconcileCmd) Run(ctx context.Context, out io.Writer) error {
	s, err := store.OpenExisting(ctx, c.Store, true)
	if err != nil {
		return err
	}
	defer s.Close()
	enc := json.NewEncoder(out)
	left, counts, problems := 0, map[string]int{}, []error(nil)
	results := s.Reconcile(ctx, c.DryRun)
	for _, r := range results {
		problems = append(problems, r.Err)
		for _, f := range r.Findings {
			counts[f.Action]++
			if f.Action != "repaired" {
				left++
			}
			if err := enc.Encode(f); err != nil {
				return fmt.Errorf("print a finding: %w", err)
			}
		}
	}
	if err := enc.Encode(map[string]any{"checks": len(results), "findings": counts, "dry_run": c.DryRun}); err != nil {
		return fmt.Errorf("print the summary: %w", err)
	}
	if left > 0 {
		problems = append(problems, fmt.Errorf("%w: %d left", errInconsistent, left))
	}
	return errors.Join(problems...)
}

type backupCmd struct {
	Store string `env:"APP_STORE" required:"" help:"sqlite:PATH. PostgreSQL: pg_dump --format=custom URL."`
	File  string `arg:"" help:"Where the copy goes; must not exist."`
}

// Run copies one consistent state while others read and write.
func (c *backupCmd) Run(ctx context.Context, out io.Writer) error {
	s, err := store.OpenExisting(ctx, c.Store, false)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Backup(ctx, c.File); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "backed up to %s\n", c.File)
	return err
}

type restoreCmd struct {
	Store string `env:"APP_STORE" required:"" help:"sqlite:PATH. PostgreSQL: pg_restore --dbname URL FILE."`
	File  string `arg:"" help:"A copy made by backup."`
}

// Run restores and says what is lost: everything after the newest payment of the copy.
func (c *restoreCmd) Run(ctx context.Context, out io.Writer) error {
	kept, err := store.Restore(ctx, c.Store, c.File)
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, c.Store)
	if err != nil {
		return err
	}
	defer s.Close()
	age, ok, err := s.NewestPayment(ctx)
	if err != nil {
		return fmt.Errorf("read the recovery point: %w", err)
	}
	if !ok {
		_, err = fmt.Fprintf(out, "restored; the copy has no payment; what was there is kept as %s\n", kept)
		return err
	}
	_, err = fmt.Fprintf(out, "restored; RPO: %.1f s (newest payment of %s); what was there is kept as %s\n",
		age.Seconds(), time.Now().Add(-age).UTC().Format(time.RFC3339Nano), kept)
	return err
}

// stamped is the version that the linker set, revision the commit.
var stamped, revision string //nolint:gochecknoglobals // -ldflags -X needs variables

// version is the linker's, or the module's as the build recorded it.
func version() string {
	if stamped != "" {
		return stamped
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// commit is the linker's, or the one that the build recorded.
func commit() string {
	if info, ok := debug.ReadBuildInfo(); ok && revision == "" {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				return setting.Value
			}
		}
	}
	return cmp.Or(revision, "unknown")
}
