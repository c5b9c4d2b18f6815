// Package store keeps the books: accounts, payments, stock, batches and the keys that make every call happen once.
// The same SQL runs on SQLite and on PostgreSQL; what differs is in one small interface.
//
// Whatever must be true together is committed together. A payment, its two entries, both balances and the
// idempotency key that asked for it are one transaction, so a process that dies at any instant leaves all or nothing.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
)

// Errors a caller may branch on. Refusals (no money, no such account…) are *RefusalError.
var (
	// ErrNotFound: there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrKeyReused: the idempotency key belongs to a call with another body.
	ErrKeyReused = errors.New("the idempotency key was used with another request")
	// ErrBusy: others hold what we need, or a call with the same key is running. Nothing was changed. Retry.
	ErrBusy = errors.New("busy, try again")
	// ErrUnavailable: the database cannot be reached or cannot write. Whether the transaction was committed is not
	// known; retry with the same key.
	ErrUnavailable = errors.New("the store is not available")
	// ErrFenced: somebody else holds the lease now.
	ErrFenced = errors.New("the lease was lost")
)

// RefusalError is a final no: repeated under the same idempotency key it stays the same.
type RefusalError struct{ Code, Message string }

func (r *RefusalError) Error() string { return r.Message }

// dialect is all that differs between the databases.
type dialect interface {
	// rewrite turns our SQL ($1, {now}, {lock}) into the database's own.
	rewrite(query string) string
	// kind sorts an error of the driver: ErrBusy, ErrUnavailable, or nil for anything else.
	kind(err error) error
	// migrate brings the schema up to date; several processes may do so at once.
	migrate(ctx context.Context, db *sql.DB) error
	// backup writes a consistent copy to a file while others go on working.
	backup(ctx context.Context, db *sql.DB, file string) error
}

// Store is safe for concurrent use. Make it with Open.
type Store struct {
	db      *sql.DB // writes
	reader  *sql.DB // reads; the same pool on PostgreSQL
	dialect dialect
	name    string
	keyTTL  time.Duration
}

// DefaultKeyTTL is how long an answer is remembered under its idempotency key.
const DefaultKeyTTL = 24 * time.Hour

// Open opens sqlite:PATH or postgres://…, and migrates it. It fails with ErrUnavailable when the database is not there.
func Open(ctx context.Context, dsn string) (*Store, error) {
	s := &Store{keyTTL: DefaultKeyTTL}
	var err error
	switch path, isSQLite := strings.CutPrefix(dsn, "sqlite:"); {
	case isSQLite && path != "":
		s.name = "sqlite"
		s.db, s.reader, s.dialect, err = openSQLite(path)
	case strings.HasPrefix(dsn, "postgres://"), strings.HasPrefix(dsn, "postgresql://"):
		s.name = "postgres"
		s.db, s.dialect, err = openPostgres(dsn)
		s.reader = s.db
	default:
		return nil, fmt.Errorf("open the store: %q is neither sqlite:PATH nor postgres://…", redact(dsn))
	}
	if err == nil {
		if err = s.dialect.migrate(ctx, s.db); err != nil {
			err = s.classify(fmt.Errorf("migrate the store: %w", err))
			_ = s.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Name is "sqlite" or "postgres".
func (s *Store) Name() string { return s.name }

// Shared reports whether other machines use the same database.
func (s *Store) Shared() bool { return s.name == "postgres" }

// Close ends all connections.
func (s *Store) Close() error {
	if s.reader == s.db {
		return s.db.Close()
	}
	return errors.Join(s.reader.Close(), s.db.Close())
}

// Backup writes a consistent copy of a SQLite store to file, which must not exist. PostgreSQL has pg_dump for that.
func (s *Store) Backup(ctx context.Context, file string) error {
	return s.classify(s.dialect.backup(ctx, s.db, file))
}

// tx is one transaction.
type tx struct {
	*sql.Tx
	s *Store
}

const (
	txPatience = 3 * time.Second  // with others who hold what we need
	txTimeout  = 30 * time.Second // a bound for callers that brought none
)

// tx runs fn in a transaction and commits when it returns nil. It is run again when the database asks for it
// (serialization failure, deadlock, lock timeout), so fn must set its results anew each time.
func (s *Store) tx(ctx context.Context, fn func(context.Context, *tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, txTimeout)
	defer cancel()
	for attempt, began := 0, time.Now(); ; attempt++ {
		err := s.classify(s.once(ctx, fn))
		if !errors.Is(err, ErrBusy) || time.Since(began) > txPatience {
			return err
		}
		pause := time.NewTimer(time.Duration(rand.Int64N(int64(5*time.Millisecond) << min(attempt, 5))))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

func (s *Store) once(ctx context.Context, fn func(context.Context, *tx) error) error {
	wait, cancel := context.WithTimeout(ctx, txPatience)
	conn, err := s.db.Conn(wait)
	waited := wait.Err() != nil && ctx.Err() == nil
	cancel()
	if waited && err != nil {
		return fmt.Errorf("%w: no connection was free within %v", ErrBusy, txPatience)
	}
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close() // back to the pool
	begun, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	t := &tx{Tx: begun, s: s}
	defer func() { _ = t.Rollback() }() // does nothing after a commit
	if err := fn(ctx, t); err != nil {
		return err
	}
	if err := t.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// classify marks driver errors as ErrBusy or ErrUnavailable, and leaves all others as they are.
func (s *Store) classify(err error) error {
	if err == nil || errors.Is(err, ErrBusy) || errors.Is(err, ErrUnavailable) {
		return err
	}
	switch kind := s.dialect.kind(err); kind {
	case nil:
		return err
	default:
		return fmt.Errorf("%w: %w", kind, err)
	}
}

func (t *tx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := t.ExecContext(ctx, t.s.dialect.rewrite(query), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (t *tx) row(ctx context.Context, query string, args ...any) *sql.Row {
	return t.QueryRowContext(ctx, t.s.dialect.rewrite(query), args...)
}

func (t *tx) rows(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return t.QueryContext(ctx, t.s.dialect.rewrite(query), args...)
}

func (s *Store) row(ctx context.Context, query string, args ...any) *sql.Row {
	return s.reader.QueryRowContext(ctx, s.dialect.rewrite(query), args...)
}

func (s *Store) rows(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return s.reader.QueryContext(ctx, s.dialect.rewrite(query), args...)
}

// each scans every row.
func each(rows *sql.Rows, err error, scan func(*sql.Rows) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

//go:embed migrations
var migrations embed.FS

func migrator(d goose.Dialect, db *sql.DB, dir string, opts ...goose.ProviderOption) (*goose.Provider, error) {
	sub, err := fs.Sub(migrations, "migrations/"+dir)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(d, db, sub, append(opts, goose.WithDisableGlobalRegistry(true))...)
}

// redact removes the password.
func redact(dsn string) string {
	if u, err := url.Parse(dsn); err == nil {
		return u.Redacted()
	}
	return "(unreadable)"
}
