package store

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/scripts/pgtest"
)

// Nothing but an existing store is looked at, and nothing is made on the way.
func TestOpenExisting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "books.db")
	if _, err := OpenExisting(t.Context(), "sqlite:"+path, false); err == nil {
		t.Error("opened what is not there")
	}
	empty := pgtest.Start(t).NewDatabase()
	leftAlone(t, path, empty)
	for _, dsn := range []string{"sqlite:" + path, empty} {
		s := open(t, dsn)
		again, err := OpenExisting(t.Context(), dsn, true)
		if err != nil {
			t.Fatal(err)
		}
		_ = again.Close()
		s.must(t, `delete from goose_db_version where version_id = 2`)
		if _, err := OpenExisting(t.Context(), dsn, true); err == nil {
			t.Error("another schema passes for ours")
		}
		if again, err = OpenExisting(t.Context(), dsn, false); err != nil {
			t.Fatal(err)
		}
		_ = again.Close()
		if n := s.number(t, `select count(*) from goose_db_version`); n != 2 {
			t.Errorf("%s: %d versions, want it untouched", dsn, n)
		}
	}
}

// leftAlone opens what holds no books: a database of another program, an empty file, what is no database at all, and an
// empty one of a server. Each is refused and stays as it was.
func leftAlone(t *testing.T, path, server string) {
	t.Helper()
	foreign, err := sql.Open("sqlite", "file:"+path+".foreign")
	if err == nil {
		_, err = foreign.ExecContext(t.Context(), `create table theirs (x)`)
	}
	if err == nil {
		err = errors.Join(foreign.Close(), os.WriteFile(path+".empty", nil, 0o600), os.WriteFile(path+".text", []byte(strings.Repeat("text ", 1000)), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{path + ".foreign", path + ".empty", path + ".text"} {
		before, _ := os.ReadFile(file)
		if _, err := OpenExisting(t.Context(), "sqlite:"+file, false); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
		if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s was changed: %v", file, err)
		}
	}
	if _, err := OpenExisting(t.Context(), server, false); err == nil {
		t.Error("an empty database passes for books")
	}
	db, err := sql.Open("pgx", server)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var tables int
	if err := db.QueryRowContext(t.Context(), `select count(*) from pg_tables where schemaname = 'public'`).Scan(&tables); err != nil || tables > 0 {
		t.Errorf("%d tables were made in an empty database: %v", tables, err)
	}
}
