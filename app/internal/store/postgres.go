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
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

const postgresConns = 20

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

func (postgresDialect) kind(err error) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case e.Code == "40001", e.Code == "40P01", e.Code == "55P03": // serialization, deadlock, lock timeout
			return ErrBusy
		case strings.HasPrefix(e.Code, "08"), strings.HasPrefix(e.Code, "57P"), // connection, server going down
			strings.HasPrefix(e.Code, "53"), e.Code == "25006", e.Code == "3D000": // resources, read-only, no database
			return ErrUnavailable
		}
		return nil
	}
	_, network := errors.AsType[net.Error](err)
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	lost := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone)
	timedOut := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	if connecting || lost || (network && !timedOut) || strings.Contains(err.Error(), "conn closed") {
		return ErrUnavailable
	}
	return nil
}

// migrate waits for its turn on an advisory lock.
func (postgresDialect) migrate(ctx context.Context, db *sql.DB) error {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	if err != nil {
		return err
	}
	p, err := migrator(goose.DialectPostgres, db, "postgres", goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

func (postgresDialect) backup(context.Context, *sql.DB, string) error {
	return errors.New("back up: PostgreSQL brings its own tool, pg_dump --format=custom")
}
