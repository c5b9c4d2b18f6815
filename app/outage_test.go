package main

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/drain-agent/drain-agent/app/api"
	"github.com/drain-agent/drain-agent/app/internal/apptest"
	"github.com/drain-agent/drain-agent/app/internal/client"
	"github.com/drain-agent/drain-agent/scripts/pgtest"
)

// outage runs a service under load, breaks its store, sees that errors and readiness say so, mends it, and sees the same
// process recover with nothing lost.
type outage struct {
	app       *apptest.App
	dsn       string
	breakIt   func()
	mend      func()
	code      codes.Code // of a payment meanwhile
	unready   string     // in the answer of the readiness probe
	readiness int        // its status meanwhile
	idle      bool       // no load while it is broken
}

func (o outage) run(t *testing.T) {
	o.app.Start()
	o.app.Ready()
	pid := strings.Count(o.app.Log(), `"msg":"starting"`)
	pay := api.NewPaymentServiceClient(dial(t, o.app))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	var report *client.Report
	load.Go(func() {
		r, err := client.Run(ctx, client.Config{
			Target: o.app.Addr, Rate: 30, Concurrency: 1000, Mode: "payments", RetryFor: 2 * time.Minute, Timeout: 10 * time.Second, Accounts: 100,
		})
		if err != nil {
			t.Error(err)
		}
		report = r
	})
	o.app.Await("some payments", func() bool { return o.app.Metric("bank_calls_total", `result="ok"`) > 20 })
	if o.idle {
		stop()
		load.Wait()
	}
	o.breakIt()
	mended := sync.OnceFunc(o.mend)
	defer mended()
	o.app.Await("readiness to tell", func() bool {
		code, body := o.app.Get("/readyz?verbose")
		return code == o.readiness && strings.Contains(body, o.unready)
	})
	if _, err := pay.ProcessPayment(t.Context(), payment("meanwhile", 1)); status.Code(err) != o.code {
		t.Errorf("a payment meanwhile: %v, want %v", err, o.code)
	}
	if code, _ := o.app.Get("/livez"); code != http.StatusOK {
		t.Errorf("liveness %d: a restart would not help", code)
	}
	mended()
	o.app.Await("readiness to recover", func() bool {
		code, body := o.app.Get("/readyz?verbose")
		return code == http.StatusOK && strings.Contains(body, "[+]store ok")
	})
	o.app.Await("the same payment to go through", func() bool {
		_, err := pay.ProcessPayment(t.Context(), payment("meanwhile", 1))
		return err == nil
	})
	stop()
	load.Wait()
	if l := report.Ledger; !l.Checked || l.Lost+l.Doubled > 0 || l.Acknowledged == 0 || len(report.Failures) > 0 {
		t.Errorf("after the outage: %+v, failures %v", l, report.Failures)
	}
	if damage := books(t, o.dsn); len(damage) > 0 {
		t.Error(damage)
	}
	if o.app.Metric("service_recovery_duration_seconds_count", `failure_type="store"`) < 1 {
		t.Error("the recovery was not measured")
	}
	if strings.Count(o.app.Log(), `"msg":"starting"`) != pid {
		t.Error("it took a restart")
	}
}

func TestPostgresRestarts(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.NewDatabase()
	outage{
		app: apptest.New(t, binary(t), "--store="+dsn), dsn: dsn,
		breakIt: func() { server.Stop(syscall.SIGINT) },
		mend: func() {
			server.Run()
			for range 3 {
				server.CutConnections()
			}
		},
		code: codes.Unavailable, readiness: http.StatusOK, unready: "[~]store degraded: the store is not available",
	}.run(t)
}

func TestSQLiteLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "books.db")
	var holder *sql.Conn
	outage{
		app: apptest.New(t, binary(t), "--store=sqlite:"+path), dsn: "sqlite:" + path,
		breakIt: func() {
			db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(30000)")
			if err == nil {
				t.Cleanup(func() { _ = db.Close() })
				holder, err = db.Conn(t.Context())
			}
			if err == nil {
				_, err = holder.ExecContext(t.Context(), "begin immediate")
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		mend: func() { _, _ = holder.ExecContext(context.Background(), "rollback") },
		code: codes.Aborted, readiness: http.StatusServiceUnavailable, unready: "[-]store failed: busy",
	}.run(t)
}

// unprivileged returns a service whose SQLite file it owns, and which may not write everything as root may.
func unprivileged(t *testing.T) (app *apptest.App, path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "books") //nolint:usetesting // an unprivileged user must be able to reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path = filepath.Join(dir, "books.db")
	app = apptest.New(t, binary(t), "--store=sqlite:"+path)
	if os.Geteuid() != 0 {
		return app, path
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.ParseUint(nobody.Uid, 10, 32)
	gid, _ := strconv.ParseUint(nobody.Gid, 10, 32)
	app.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		t.Fatal(err)
	}
	return app, path
}

// chmod changes the mode of the file and of those that SQLite keeps beside it.
func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	files, _ := filepath.Glob(path + "*")
	for _, f := range files {
		if err := os.Chmod(f, mode); err != nil && !errors.Is(err, os.ErrNotExist) { // a log may just have been removed
			t.Fatal(err)
		}
	}
}

// The file may no longer be written, under load: an open descriptor keeps its right, but no connection is older than 5 s.
func TestSQLiteMadeReadOnly(t *testing.T) {
	app, path := unprivileged(t)
	outage{
		app: app, dsn: "sqlite:" + path,
		breakIt: func() { chmod(t, path, 0o444) },
		mend:    func() { chmod(t, path, 0o644) },
		code:    codes.Unavailable, readiness: http.StatusServiceUnavailable, unready: "readonly database",
	}.run(t)
}

// A file that may not be written from the start: the service says so instead of starting, and starts when it may.
func TestSQLiteReadOnlyAtStart(t *testing.T) {
	app, path := unprivileged(t)
	app.Start()
	app.Ready()
	before, err := api.NewPaymentServiceClient(dial(t, app)).ProcessPayment(t.Context(), payment("k", 1))
	if err != nil {
		t.Fatal(err)
	}
	app.Signal(syscall.SIGTERM)
	app.Exit()
	chmod(t, path, 0o444)
	app.Start()
	app.Await("the startup probe to say why", func() bool {
		code, body := app.Get("/startupz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "readonly")
	})
	if code, _ := app.Get("/livez"); code != http.StatusOK {
		t.Errorf("liveness %d: a restart would not help", code)
	}
	chmod(t, path, 0o644)
	app.Ready()
	if after, err := api.NewPaymentServiceClient(dial(t, app)).ProcessPayment(t.Context(), payment("k", 1)); err != nil || after.GetPaymentId() != before.GetPaymentId() {
		t.Errorf("%v %v", after, err)
	}
}

// The file system is full, under load.
func TestSQLiteDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system; TestSQLiteMadeReadOnly takes the same way through the service")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	path, filler := filepath.Join(dir, "books.db"), filepath.Join(dir, "filler")
	outage{
		app: apptest.New(t, binary(t), "--store=sqlite:"+path), dsn: "sqlite:" + path,
		breakIt: func() {
			if err := os.WriteFile(filler, make([]byte, 8<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("fill the file system: %v", err)
			}
		},
		mend: func() { _ = os.Remove(filler) },
		code: codes.Unavailable, readiness: http.StatusServiceUnavailable, unready: "full",
	}.run(t)
}

// The first bytes of the file are overwritten, and put back. (Where they cannot be put back: app restore.)
func TestSQLiteCorrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "books.db")
	var header []byte
	overwrite := func(with func(good []byte) []byte) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		good := make([]byte, 100)
		if _, err := f.ReadAt(good, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(with(good), 0); err != nil {
			t.Fatal(err)
		}
	}
	outage{
		app: apptest.New(t, binary(t), "--store=sqlite:"+path), dsn: "sqlite:" + path,
		breakIt: func() {
			checkpoint(t, path) // or the log would hide the damage
			overwrite(func(good []byte) []byte { header = good; return make([]byte, 100) })
		},
		idle: true,
		mend: func() { overwrite(func([]byte) []byte { return header }) },
		code: codes.Unavailable, readiness: http.StatusServiceUnavailable, unready: "[-]store failed: the store is not available",
	}.run(t)
}

// checkpoint moves SQLite's write-ahead log into the file.
func checkpoint(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var busy, frames, moved int
	if err := db.QueryRowContext(t.Context(), "pragma wal_checkpoint(truncate)").Scan(&busy, &frames, &moved); err != nil || busy != 0 {
		t.Fatalf("checkpoint: busy %d, %v", busy, err)
	}
}

// A service that starts before its store is there waits for it and becomes ready by itself.
func TestStartsBeforeItsStore(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.NewDatabase()
	server.Stop(syscall.SIGINT)
	app := apptest.New(t, binary(t), "--store="+dsn)
	app.Start()
	app.Await("the startup probe to say why", func() bool {
		code, body := app.Get("/startupz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "the store is not available")
	})
	server.Run()
	app.Ready()
}
