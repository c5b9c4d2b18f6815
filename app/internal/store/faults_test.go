package store

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// cutter cuts commits off while it is on: one in ten before it happens, one in ten between it and its answer.
type cutter struct {
	on            atomic.Bool
	before, after atomic.Int64
}

var errCut = errors.New("the answer to the commit was lost")

func (c *cutter) draw() (before, after bool) {
	if !c.on.Load() {
		return false, false
	}
	switch rand.IntN(10) {
	case 0:
		c.before.Add(1)
		return true, false
	case 1:
		c.after.Add(1)
		return false, true
	}
	return false, false
}

// commit is the fault in the driver, for a database without a network.
func (c *cutter) commit(tx driver.Tx) error {
	before, after := c.draw()
	if before {
		return errors.Join(errCut, tx.Rollback())
	}
	if err := tx.Commit(); err != nil || !after {
		return err
	}
	return errCut
}

// proxy stands before PostgreSQL and returns the URL that leads through it.
func (c *cutter) proxy(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", filepath.Join(u.Query().Get("host"), ".s.PGSQL.5432"))
			if err != nil {
				_ = client.Close()
				continue
			}
			go c.pass(client, server)
		}
	}()
	return "postgres://postgres@" + l.Addr().String() + u.Path + "?sslmode=disable"
}

// pass copies both ways. A commit is one small message of its own.
func (c *cutter) pass(client, server net.Conn) {
	var swallow atomic.Bool
	go copyUntil(client, server, func([]byte) bool { return !swallow.Load() })
	copyUntil(server, client, func(message []byte) bool {
		if !bytes.HasPrefix(message, []byte("Q")) || !bytes.HasSuffix(message, []byte("commit\x00")) {
			return true
		}
		before, after := c.draw()
		swallow.Store(after)
		return !before
	})
}

// copyUntil ends both connections when one ends or more says no.
func copyUntil(to, from net.Conn, more func([]byte) bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !more(buf[:n]) {
			return
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// tamper puts a commit of the test in the place of the driver's. Connections are made as before.
func tamper(s *Store, commit func(driver.Tx) error) {
	own := sql.OpenDB(connector{s.db, commit})
	own.SetMaxOpenConns(s.db.Stats().MaxOpenConnections)
	own.SetMaxIdleConns(s.db.Stats().MaxOpenConnections)
	if s.reader == s.db {
		s.reader = own
	}
	s.db = own
}

type connector struct {
	pool   *sql.DB
	commit func(driver.Tx) error
}

func (c connector) Driver() driver.Driver { return c.pool.Driver() }

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	held, err := c.pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	wrapped := &tampered{held: held, commit: c.commit}
	return wrapped, held.Raw(func(raw any) error {
		wrapped.Conn = raw.(driver.Conn)
		return nil
	})
}

type tampered struct {
	driver.Conn
	held   *sql.Conn
	commit func(driver.Tx) error
}

func (c *tampered) Close() error {
	_ = c.held.Raw(func(any) error { return driver.ErrBadConn }) // the pool must not use it again
	return c.held.Close()
}

func (c *tampered) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
	return tamperedTx{tx, c.commit}, err
}

func (c *tampered) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c *tampered) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c *tampered) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

func (c *tampered) ResetSession(ctx context.Context) error {
	return c.Conn.(driver.SessionResetter).ResetSession(ctx)
}

type tamperedTx struct {
	driver.Tx
	commit func(driver.Tx) error
}

func (t tamperedTx) Commit() error { return t.commit(t.Tx) }
