package ledger

import (
	"context"
	"crypto/rand"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // for database/sql
)

// Store keeps rows. Several processes may use one PostgreSQL: whoever is second adds nothing.
type Store interface {
	// Saw remembers a pod that lives.
	Saw(ctx context.Context, p Pod) error
	// Gone remembers that a pod ended and left no verdict as far as we know. The first moment stays.
	Gone(ctx context.Context, p Pod, why string, at time.Time) error
	// Forget drops a pod that never ran.
	Forget(ctx context.Context, uid string) error
	// Pods returns the pods without a row: those that live, and those that ended before a moment.
	Pods(ctx context.Context) (live []Pod, err error)
	Lost(ctx context.Context, before time.Time) ([]*Stop, error)
	// Add keeps a row, unless it is there; a verdict replaces an unknown. added: it is new.
	Add(ctx context.Context, s *Stop) (added bool, err error)
	// Prune removes rows by age and by count.
	Prune(ctx context.Context, now time.Time) error

	Drains(ctx context.Context, q Query) (Page[json.RawMessage], error)
	Rollouts(ctx context.Context, q Query) (Page[Rollout], error)
	Sums(ctx context.Context, q Query) (Sum, error)
	Totals(ctx context.Context) ([]Total, error)
	Close() error
}

// Limits bound what is kept.
type Limits struct {
	Age       time.Duration
	Rows      int
	Workloads int // with sums of their own; the others share one
}

// database is a Store in SQLite or PostgreSQL.
type database struct {
	*sql.DB
	limits Limits
	sqlite bool
	pin    *sql.Conn // a database in memory lives as long as a connection
}

//go:embed schema.sql
var tables string

// patience is how long one call may take.
const patience = 10 * time.Second

// Check says what is wrong with the name of a store, without opening it.
func Check(name string) error {
	_, err := resolve(name)
	return err
}

// resolve returns memory, sqlite:PATH or a URL. The content of a file may be any of them.
func resolve(name string) (string, error) {
	at := name
	if file, ok := strings.CutPrefix(name, "file:"); ok {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read the store's name: %w", err)
		}
		at = strings.TrimSpace(string(text))
	}
	if path, ok := strings.CutPrefix(at, "sqlite:"); at == "memory" || ok && path != "" {
		return at, nil
	}
	if u, err := url.Parse(at); err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") {
		if _, err := pgx.ParseConfig(at); err == nil {
			return at, nil
		}
		return "", errors.New("open the store: its postgres:// URL cannot be read; it should be postgres://USER:PASSWORD@HOST:5432/DATABASE")
	}
	return "", errors.New("open the store: what --store names is none of memory, sqlite:PATH, postgres://…, and file:PATH with one of them in it")
}

// Open opens a store and makes its tables. memory is a SQLite database that ends with this process.
func Open(ctx context.Context, name string, limits Limits) (Store, error) {
	name, err := resolve(name)
	if err != nil {
		return nil, err
	}
	s := &database{limits: limits, sqlite: !strings.HasPrefix(name, "postgres")}
	if s.sqlite {
		path := "file:/" + rand.Text()
		parameters := url.Values{"_pragma": {"busy_timeout(5000)", "journal_mode(wal)", "synchronous(normal)"}, "_txlock": {"immediate"}}
		if file, ok := strings.CutPrefix(name, "sqlite:"); ok {
			path = "file:" + (&url.URL{Path: file}).EscapedPath()
		} else {
			parameters.Set("vfs", "memdb")
		}
		if s.DB, err = sql.Open("sqlite", path+"?"+parameters.Encode()); err != nil {
			return nil, fmt.Errorf("open the store: %w", err)
		}
		if s.pin, err = s.Conn(ctx); err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("open the store: %w", err)
		}
		s.SetMaxOpenConns(2) // the pinned one and one that works: writers wait here and not in the file's lock
	} else {
		config, err := pgx.ParseConfig(name)
		if err != nil {
			return nil, errors.New("open the store: its URL cannot be read") // it has a password
		}
		config.ConnectTimeout = patience
		s.DB = stdlib.OpenDB(*config)
		s.SetMaxOpenConns(4)
		s.SetConnMaxLifetime(5 * time.Minute)
	}
	if err := s.create(ctx); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("open the store: %w", err)
	}
	return s, nil
}

// Close ends all connections.
func (s *database) Close() error {
	if s.pin != nil {
		_ = s.pin.Close()
	}
	return s.DB.Close()
}

// create makes the tables; on PostgreSQL two processes that do it at once wait for each other.
func (s *database) create(ctx context.Context) error {
	return s.tx(ctx, func(t tx) error {
		if !s.sqlite {
			if _, err := t.exec("select pg_advisory_xact_lock(7236419)"); err != nil { // any number that nobody else has
				return err
			}
		}
		_, err := t.exec(tables)
		return err
	})
}

// tx is one transaction with its time limit.
type tx struct {
	*sql.Tx
	ctx    context.Context
	sqlite bool
}

// tx runs fn in a transaction and commits when it returns nil.
func (s *database) tx(ctx context.Context, fn func(tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begun, err := s.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = begun.Rollback() }() // does nothing after a commit
	if err := fn(tx{begun, ctx, s.sqlite}); err != nil {
		return err
	}
	return begun.Commit()
}

// exec returns the number of rows that were changed.
func (t tx) exec(query string, args ...any) (int64, error) {
	result, err := t.ExecContext(t.ctx, words(t.sqlite, query), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// words turns our SQL into the database's own: PostgreSQL's parameters are $1, $2, …, SQLite's ?1, ?2.
func words(sqlite bool, query string) string {
	if sqlite {
		return strings.ReplaceAll(query, "$", "?")
	}
	return query
}

// each scans the rows of a query.
func (s *database) each(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	rows, err := s.QueryContext(ctx, words(s.sqlite, query), args...)
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
