package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// sqliteReopen bounds how long a connection lives: what it has cached of the file must not hide for ever that the file
// is damaged, or that it was mended.
const sqliteReopen = 5 * time.Second

// sqliteTurns: one writes. Who waits does so in the order of arrival.
const sqliteTurns = 1

type sqliteDialect struct{ path string }

// openSQLite opens two pools: one connection that writes, so that writers queue here and not in the file's lock,
// and a few that read beside it (WAL). Every commit is synced to disk: an acknowledged payment survives the machine.
func openSQLite(path string) (db, reader *sql.DB, d dialect, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, nil, nil, fmt.Errorf("%w: make the store's folder: %w", ErrUnavailable, err)
	}
	open := func(conns int, lock string) (*sql.DB, error) {
		q := url.Values{
			"_pragma": {"busy_timeout(1000)", "journal_mode(wal)", "synchronous(full)", "foreign_keys(1)"},
			"_txlock": {lock},
		}
		db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		db.SetMaxOpenConns(conns)
		db.SetConnMaxLifetime(sqliteReopen)
		return db, nil
	}
	if db, err = open(1, "immediate"); err != nil {
		return nil, nil, nil, err
	}
	if reader, err = open(4, "deferred"); err != nil {
		_ = db.Close()
		return nil, nil, nil, err
	}
	return db, reader, sqliteDialect{path}, nil
}

var sqliteWords = strings.NewReplacer("$", "?", "{now}", "cast(unixepoch('subsec') * 1000 as integer)", "{lock}", "")

func (sqliteDialect) rewrite(query string) string { return sqliteWords.Replace(query) }

func (sqliteDialect) kind(err error) (kind error, said bool) {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return nil, false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return ErrBusy, true
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL,
		sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return ErrUnavailable, false
	default:
		return nil, e.Code()&0xff == sqlite3.SQLITE_CONSTRAINT
	}
}

// version does not use our pools: their first connection would make another program's file, or an empty one, ours.
func (d sqliteDialect) version(ctx context.Context, _ *sql.DB) (int64, error) {
	db, err := readOnly(d.path)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	return applied(ctx, db)
}

func readOnly(path string) (*sql.DB, error) {
	return sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=ro")
}

func (sqliteDialect) migrator(db *sql.DB) (*goose.Provider, error) {
	return migrator(goose.DialectSQLite3, db, "sqlite")
}

// alone holds a lock file: goose by itself lets two processes run the same migration on SQLite. It asks again and again,
// since a wait in the kernel would not end with ctx.
func (d sqliteDialect) alone(ctx context.Context) (func(), error) {
	lock, err := os.OpenFile(d.path+".migrate", os.O_CREATE|os.O_RDONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = lock.Close() }, nil // unlocks too
		}
		if ctx.Err() != nil || !errors.Is(err, syscall.EWOULDBLOCK) {
			_ = lock.Close()
			return nil, fmt.Errorf("%w: lock %s: %w", ErrUnavailable, lock.Name(), err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (sqliteDialect) backup(ctx context.Context, db *sql.DB, file string) error {
	if _, err := db.ExecContext(ctx, "vacuum into ?", file); err != nil {
		return fmt.Errorf("back up to %s: %w", file, err)
	}
	return nil
}

// Restore puts the backup in the place of a SQLite store that nobody has open. The backup is checked first; what stood
// there is kept under the returned name.
func Restore(ctx context.Context, dsn, backup string) (kept string, err error) {
	path, ok := strings.CutPrefix(dsn, "sqlite:")
	if !ok {
		return "", fmt.Errorf("restore %s: only SQLite stores; use pg_restore", redact(dsn))
	}
	if err := checkFile(ctx, backup); err != nil {
		return "", fmt.Errorf("restore: the backup %s is not sound: %w", backup, err)
	}
	if err := notInUse(ctx, path); err != nil {
		return "", fmt.Errorf("restore: %s: %w", path, err)
	}
	data, err := os.ReadFile(backup)
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	temp := path + ".restoring"
	if err := os.WriteFile(temp, data, 0o640); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	kept = fmt.Sprintf("%s.before-%d", path, time.Now().Unix())
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(path+suffix, kept+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("restore: %w", err)
		}
	}
	return kept, os.Rename(temp, path)
}

func checkFile(ctx context.Context, path string) error {
	db, err := readOnly(path)
	if err != nil {
		return err
	}
	defer db.Close()
	var verdict string
	var payments int64
	if err := db.QueryRowContext(ctx, "pragma integrity_check").Scan(&verdict); err != nil {
		return err
	}
	if err := db.QueryRowContext(ctx, "select count(*) from payments").Scan(&payments); err != nil {
		return fmt.Errorf("it holds no books: %w", err)
	}
	if verdict != "ok" {
		return errors.New(verdict)
	}
	return nil
}

// notInUse fails when another process has the file open: leaving WAL mode needs it alone.
func notInUse(ctx context.Context, path string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?_pragma=busy_timeout(500)")
	if err != nil {
		return err
	}
	defer db.Close()
	var mode string
	err = db.QueryRowContext(ctx, "pragma journal_mode=delete").Scan(&mode)
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code()&0xff == sqlite3.SQLITE_BUSY {
		return errors.New("a process still has it open; stop the service first")
	}
	return nil // damaged files may be replaced, that is what a restore is for
}
