package main

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/app/internal/apptest"
	"github.com/drain-agent/drain-agent/app/internal/client"
	"github.com/drain-agent/drain-agent/scripts/pgtest"
)

// exec1 runs a statement past all our own code.
func exec1(t *testing.T, dsn, statement string) {
	t.Helper()
	driver, source := "pgx", dsn
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		driver, source = "sqlite", "file:"+path+"?_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func command(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, &out)
	}
	return out.String()
}

// A copy made under load is restored after the store is lost: it is consistent, and holds every payment that was
// acknowledged before the copy began. What came later is the recovery point, which is printed.
func TestBackupAndRestore(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		dir := t.TempDir()
		dsn, file := "sqlite:"+filepath.Join(dir, "books.db"), filepath.Join(dir, "copy.db")
		printed := backupUnderLoad(t, dsn,
			func() { command(t, exec.Command(binary(t), "backup", "--store="+dsn, file)) },
			func(running bool) string {
				if running {
					out, err := exec.Command(binary(t), "restore", "--store="+dsn, file).CombinedOutput()
					if err == nil || !strings.Contains(string(out), "stop the service first") {
						t.Errorf("restore under a running service: %v %s", err, out)
					}
					return ""
				}
				if err := os.WriteFile(filepath.Join(dir, "books.db"), []byte("lost"), 0o600); err != nil {
					t.Fatal(err)
				}
				return command(t, exec.Command(binary(t), "restore", "--store="+dsn, file))
			})
		match := regexp.MustCompile(`RPO: ([0-9.]+) s`).FindStringSubmatch(printed)
		if match == nil {
			t.Fatalf("no recovery point in %q", printed)
		}
		if rpo, err := strconv.ParseFloat(match[1], 64); err != nil || rpo <= 0 {
			t.Errorf("RPO %s", match[1])
		}
		t.Log(strings.TrimSpace(printed))
	})
	t.Run("postgres", func(t *testing.T) { // as docs/explanation/payments.md says
		server := pgtest.Start(t)
		dsn, file := server.NewDatabase(), filepath.Join(t.TempDir(), "copy.dump")
		backupUnderLoad(t, dsn,
			func() { command(t, server.Tool("pg_dump", "--format=custom", "--file="+file, dsn)) },
			func(running bool) string {
				if running {
					return ""
				}
				return command(t, server.Tool("pg_restore", "--clean", "--if-exists", "--single-transaction", "--dbname="+dsn, file))
			})
	})
}

func backupUnderLoad(t *testing.T, dsn string, backup func(), restore func(running bool) string) string {
	app := apptest.New(t, binary(t), "--store="+dsn)
	app.Start()
	app.Ready()
	paid := func() int64 { return number(t, dsn, `select count(*) from payments`) }
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	load.Go(func() {
		if _, err := client.Run(ctx, client.Config{
			Target: app.Addr, Rate: 50, Concurrency: 500, Mode: "payments", RetryFor: time.Minute, Timeout: 5 * time.Second, Accounts: 100,
		}); err != nil {
			t.Error(err)
		}
	})
	app.Await("payments", func() bool { return paid() > 130 })
	before := paid()
	backup()
	after := paid()
	app.Await("payments after the copy", func() bool { return paid() > after+20 })
	lost := paid()
	restore(true)
	stop()
	load.Wait()
	app.Signal(syscall.SIGTERM)
	if code := app.Exit(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	printed := restore(false)
	if n := paid(); n < before || n >= lost {
		t.Errorf("%d payments after the restore, want at least the %d from before the copy and fewer than %d", n, before, lost)
	}
	if damage := books(t, dsn); len(damage) > 0 {
		t.Error(damage)
	}
	app.Start()
	app.Ready()
	return printed
}

// app reconcile finds, says so with its exit code, repairs, and is content after that.
func TestReconcileCommand(t *testing.T) {
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "books.db")
	app := apptest.New(t, binary(t), "--store="+dsn, "--reconcile-every=0")
	app.Start()
	app.Ready()
	exec1(t, dsn, `update accounts set balance = balance + 7 where id = 'acct-0002'`)
	reconcile := func(args ...string) (string, bool) {
		out, err := exec.Command(binary(t), append([]string{"reconcile", "--store=" + dsn}, args...)...).CombinedOutput()
		return string(out), err == nil
	}
	if out, ok := reconcile("--dry-run"); ok || !strings.Contains(out, `"kind":"balance_drift"`) {
		t.Errorf("dry run: %v\n%s", ok, out)
	}
	if out, ok := reconcile(); !ok || !strings.Contains(out, `"action":"repaired"`) {
		t.Errorf("repair: %v\n%s", ok, out)
	}
	if out, ok := reconcile("--dry-run"); !ok {
		t.Errorf("after the repair:\n%s", out)
	}
}
