package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Of 20 connections 4 are kept for reads and signs of life.
const postgresConns, postgresSpare = 20, 4

type postgresDialect struct{}

// openPostgres reads committed rows under row locks taken in one order. lock_timeout turns a long wait into ErrBusy,
// and a transaction that its client left alone does not hold its locks for ever.
func openPostgres(dsn string) (*sql.DB, dialect, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, nil, fmt.Errorf("open the store: %w", err)
	}
	cfg.ConnectTimeout = 3 * time.Second
	maps.Copy(cfg.RuntimeParams, map[string]string{
		"lock_timeout": "2s", "statement_timeout": "30s", "idle_in_transaction_session_timeout": "30s",
	})
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(postgresConns)
	db.SetMaxIdleConns(postgresConns)
	db.SetConnMaxLifetime(5 * time.Minute)
	return db, postgresDialect{}, nil
}

var postgresWords = strings.NewReplacer(
	"{now}", "(extract(epoch from clock_timestamp()) * 1000)::bigint", "{lock}", "for update")

func (postgresDialect) rewrite(query string) string { return postgresWords.Replace(query) }

// gone are the classes of errors that say something of the server and nothing of the statement: connection, login,
// database, resources, somebody or a timeout stepped in (38 s frozen, then 57014), disk, configuration, damage.
var gone = []string{"08", "28", "3D", "53", "57", "58", "F0", "XX"}

func (postgresDialect) kind(err error) (kind error, said bool) {
	if err == nil {
		return nil, false
	}
	_, connecting := errors.AsType[*pgconn.ConnectError](err) // also what the server says against it, such as a password
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && !connecting {
		switch class := e.Code[:min(2, len(e.Code))]; {
		case e.Code == "40001", e.Code == "40P01", e.Code == "55P03": // serialization, deadlock, lock timeout
			return ErrBusy, true
		case slices.Contains(gone, class), e.Code == "25006", strings.HasPrefix(e.Code, "25P"), e.Code == "42501":
			return ErrUnavailable, false // 25: read-only, left alone in a transaction; 42501: not allowed
		default:
			return nil, class == "23" // a constraint: told instead of a commit
		}
	}
	_, network := errors.AsType[net.Error](err)
	lost := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone)
	timedOut := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	if connecting || lost || (network && !timedOut) || strings.Contains(err.Error(), "conn closed") {
		return ErrUnavailable, false
	}
	return nil, false
}

func (postgresDialect) version(ctx context.Context, db *sql.DB) (int64, error) {
	return applied(ctx, db)
}

// migrator waits for its turn on an advisory lock.
func (postgresDialect) migrator(db *sql.DB) (*goose.Provider, error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	if err != nil {
		return nil, err
	}
	return migrator(goose.DialectPostgres, db, "postgres", goose.WithSessionLocker(locker))
}

func (postgresDialect) alone(context.Context) (func(), error) { return func() {}, nil }

func (postgresDialect) backup(context.Context, *sql.DB, string) error {
	return errors.New("back up: PostgreSQL brings its own tool, pg_dump --format=custom")
}
