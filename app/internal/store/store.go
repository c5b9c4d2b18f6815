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
	"os"
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
	// ErrUnavailable: the database cannot be reached, does not answer in time or cannot write. Nothing was changed.
	ErrUnavailable = errors.New("the store is not available")
	// ErrUncertain: it broke between the commit and its answer, so nobody knows whether it happened. Retry with the same key.
	ErrUncertain = errors.New("the commit was not answered")
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
	// kind sorts an error of the driver: ErrBusy, ErrUnavailable, or nil for anything else. said means that the database
	// itself has answered: it has rolled back.
	kind(err error) (kind error, said bool)
	// version reads the schema's version and changes nothing: 0 where there are no books.
	version(ctx context.Context, db *sql.DB) (int64, error)
	// migrator knows the schema; it may be asked to bring it up to date by several processes at once.
	migrator(db *sql.DB) (*goose.Provider, error)
	// alone keeps other migrators out until the returned function is called.
	alone(ctx context.Context) (func(), error)
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
	turns   chan struct{} // one for each transaction that works or is next; signs of life need none
}

// DefaultKeyTTL is how long an answer is remembered under its idempotency key.
const DefaultKeyTTL = 24 * time.Hour

// Open opens sqlite:PATH or postgres://…, and migrates it. It fails with ErrUnavailable when the database is not there.
func Open(ctx context.Context, dsn string) (*Store, error) {
	s, err := connect(dsn)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, migrateTimeout, errPatience)
	defer cancel()
	if err := s.migrate(ctx); err != nil {
		_ = s.Close()
		return nil, s.classify(ctx, fmt.Errorf("migrate the store: %w", err))
	}
	return s, nil
}

// OpenExisting opens a store that is there, and neither makes nor migrates anything. exact: of this very schema.
func OpenExisting(ctx context.Context, dsn string, exact bool) (*Store, error) {
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("open the store: %w", err)
		}
	}
	s, err := connect(dsn)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, migrateTimeout, errPatience)
	defer cancel()
	have, err := s.dialect.version(ctx, s.db)
	var m *goose.Provider
	if err = s.classify(ctx, err); err == nil {
		m, err = s.dialect.migrator(s.db)
	}
	switch {
	case errors.Is(err, ErrUnavailable):
		err = fmt.Errorf("open the store: %s: %w", redact(dsn), err)
	case err != nil, have <= 0: // it has no table of versions, or nothing in it
		err = fmt.Errorf("open the store: %s holds no books; is it the right one?", redact(dsn))
	case exact && have != newest(m):
		err = fmt.Errorf("open the store: %s has schema %d, this program %d; start the service once, it migrates", redact(dsn), have, newest(m))
	}
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// applied is the version that the migrator has left.
func applied(ctx context.Context, db *sql.DB) (version int64, err error) {
	err = db.QueryRowContext(ctx, `select coalesce(max(version_id), 0) from goose_db_version where is_applied`).Scan(&version)
	return version, err
}

func newest(m *goose.Provider) int64 {
	all := m.ListSources()
	return all[len(all)-1].Version
}

func (s *Store) migrate(ctx context.Context) error {
	unlock, err := s.dialect.alone(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	m, err := s.dialect.migrator(s.db)
	if err == nil {
		_, err = m.Up(ctx)
	}
	return err
}

func connect(dsn string) (s *Store, err error) {
	s = &Store{keyTTL: DefaultKeyTTL}
	switch path, isSQLite := strings.CutPrefix(dsn, "sqlite:"); {
	case isSQLite && path != "":
		s.name, s.turns = "sqlite", make(chan struct{}, sqliteTurns)
		s.db, s.reader, s.dialect, err = openSQLite(path)
	case strings.HasPrefix(dsn, "postgres://"), strings.HasPrefix(dsn, "postgresql://"):
		s.name, s.turns = "postgres", make(chan struct{}, postgresConns-postgresSpare)
		s.db, s.dialect, err = openPostgres(dsn)
		s.reader = s.db
	default:
		return nil, fmt.Errorf("open the store: %q is neither sqlite:PATH nor postgres://…", redact(dsn))
	}
	return s, err
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
	return s.classify(ctx, s.dialect.backup(ctx, s.db, file))
}

// tx is one transaction.
type tx struct {
	*sql.Tx
	s        *Store
	patience time.Duration // with one statement
	silence  *time.Timer   // ends the transaction
}

// alive is called before every statement.
func (t *tx) alive() { t.silence.Reset(t.patience) }

const (
	busyPatience   = 3 * time.Second  // with others who hold what we need
	patience       = 4 * time.Second  // with a database that does not answer: one statement, one read
	txTimeout      = 30 * time.Second // a whole transaction, however many statements it has
	migrateTimeout = 2 * time.Minute
)

// errPatience marks a deadline of ours, in contrast to the caller's.
var errPatience = errors.New("no answer in time")

// tx runs fn in a transaction and commits when it returns nil. It is run again when the database asks for it
// (serialization failure, deadlock, lock timeout), so fn must set its results anew each time.
func (s *Store) tx(ctx context.Context, fn func(context.Context, *tx) error) error {
	wait := time.NewTimer(busyPatience)
	defer wait.Stop()
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-wait.C:
		return fmt.Errorf("%w: no turn came within %v", ErrBusy, busyPatience)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return s.urgent(ctx, fn)
}

// urgent is tx without waiting for a turn: however many callers there are, a sign of life passes them.
func (s *Store) urgent(ctx context.Context, fn func(context.Context, *tx) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, txTimeout, errPatience)
	defer cancel()
	for attempt, began := 0, time.Now(); ; attempt++ {
		err := s.once(ctx, fn)
		if !errors.Is(err, ErrBusy) || time.Since(began) > busyPatience {
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
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	silence := time.AfterFunc(patience, func() { stop(errPatience) })
	defer silence.Stop()
	begun, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.classify(ctx, fmt.Errorf("begin: %w", err))
	}
	t := &tx{Tx: begun, s: s, patience: patience, silence: silence}
	defer func() { _ = t.Rollback() }() // does nothing after a commit
	if err := fn(ctx, t); err != nil {
		return s.classify(ctx, err)
	}
	t.alive()
	err = t.Commit()
	if _, said := s.dialect.kind(err); err == nil || said {
		return s.classify(ctx, err)
	}
	return fmt.Errorf("%w: %w", ErrUncertain, err)
}

// classify marks errors of the driver and the end of our patience as ErrBusy or ErrUnavailable, and leaves all others as
// they are, those that come from the caller's own deadline too.
func (s *Store) classify(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if err == nil || errors.Is(err, ErrBusy) || errors.Is(err, ErrUnavailable) || (cause != nil && !errors.Is(cause, errPatience)) {
		return err
	}
	if kind, _ := s.dialect.kind(err); kind != nil {
		return fmt.Errorf("%w: %w", kind, err)
	}
	if errors.Is(cause, errPatience) {
		return fmt.Errorf("%w: %w: %w", ErrUnavailable, errPatience, err)
	}
	return err
}

func (t *tx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	t.alive()
	res, err := t.ExecContext(ctx, t.s.dialect.rewrite(query), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (t *tx) row(ctx context.Context, query string, args ...any) scanner {
	t.alive()
	return t.QueryRowContext(ctx, t.s.dialect.rewrite(query), args...)
}

func (t *tx) rows(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	t.alive()
	return t.QueryContext(ctx, t.s.dialect.rewrite(query), args...)
}

// scanner is a row, or one that is read when it is scanned.
type scanner interface{ Scan(dest ...any) error }

type scan func(dest ...any) error

func (f scan) Scan(dest ...any) error { return f(dest...) }

// row reads one row outside any transaction, with patience.
func (s *Store) row(ctx context.Context, query string, args ...any) scanner {
	return scan(func(dest ...any) error {
		ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
		defer cancel()
		return s.classify(ctx, s.reader.QueryRowContext(ctx, s.dialect.rewrite(query), args...).Scan(dest...))
	})
}

// each reads every row outside any transaction, within the given time.
func (s *Store) each(ctx context.Context, within time.Duration, scan func(*sql.Rows) error, query string, args ...any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, errPatience)
	defer cancel()
	rows, err := s.reader.QueryContext(ctx, s.dialect.rewrite(query), args...)
	return s.classify(ctx, each(rows, err, scan))
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
