// Package pgtest runs a PostgreSQL server of its own for tests: in a temporary folder, as an unprivileged user, on a Unix
// socket, which pods with a network of their own reach too. It needs Debian's package "postgresql" (initdb and postgres
// anywhere in PATH or /usr/lib/postgresql).
package pgtest

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // for database/sql
)

// Server is a running PostgreSQL.
type Server struct {
	tb  testing.TB
	dir string
	cmd *exec.Cmd
	log bytes.Buffer
	dbs int
}

// Start runs a server until the test ends. The test fails when PostgreSQL is not installed.
func Start(tb testing.TB) *Server {
	tb.Helper()
	dir, err := os.MkdirTemp("", "pg") //nolint:usetesting // an unprivileged user must be able to reach it
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Server{tb: tb, dir: dir}
	if cred := s.credential(); cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			tb.Fatal(err)
		}
	}
	initdb := s.command("initdb", "-D", filepath.Join(dir, "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
	if out, err := initdb.CombinedOutput(); err != nil {
		tb.Fatalf("initdb: %v\n%s", err, out)
	}
	s.Run()
	tb.Cleanup(func() { s.Stop(syscall.SIGQUIT) })
	return s
}

// Run starts the server, on the same data and socket as before, and waits until it answers.
func (s *Server) Run() {
	s.tb.Helper()
	s.cmd = s.command("postgres", "-D", filepath.Join(s.dir, "data"), "-k", s.dir, "-c", "listen_addresses=",
		"-c", "max_connections=200")
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	db := s.connect("postgres")
	defer db.Close()
	deadline := time.Now().Add(30 * time.Second)
	for err := error(nil); ; {
		if err = db.PingContext(context.Background()); err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.tb.Fatalf("PostgreSQL does not answer: %v\n%s", err, s.log.String())
		}
	}
}

// Stop ends the server: SIGINT disconnects everybody, SIGQUIT does not even write a checkpoint.
func (s *Server) Stop(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig)
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Freeze stops the server and every session in their tracks, until thaw is called. It may be called again.
func (s *Server) Freeze() (thaw func()) {
	s.tb.Helper()
	pid := s.cmd.Process.Pid
	_ = syscall.Kill(pid, syscall.SIGSTOP) // first, so that no session is added
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		s.tb.Fatal(err)
	}
	pids := []int{pid}
	for child := range strings.FieldsSeq(string(text)) {
		n, _ := strconv.Atoi(child)
		_ = syscall.Kill(n, syscall.SIGSTOP)
		pids = append(pids, n)
	}
	return func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
}

// CutConnections ends every client's connection.
func (s *Server) CutConnections() {
	s.tb.Helper()
	db := s.connect("postgres")
	defer db.Close()
	if _, err := db.ExecContext(context.Background(), `select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'`); err != nil {
		s.tb.Fatal(err)
	}
}

// NewDatabase returns the URL of a new, empty database.
func (s *Server) NewDatabase() string {
	s.tb.Helper()
	s.dbs++
	name := fmt.Sprintf("test%d", s.dbs)
	db := s.connect("postgres")
	defer db.Close()
	if _, err := db.ExecContext(context.Background(), "create database "+name); err != nil {
		s.tb.Fatal(err)
	}
	return s.url(name)
}

// Tool returns a command of the PostgreSQL installation, such as pg_dump.
func (s *Server) Tool(name string, args ...string) *exec.Cmd {
	return exec.CommandContext(context.WithoutCancel(s.tb.Context()), s.binary(name), args...)
}

func (s *Server) url(name string) string {
	return fmt.Sprintf("postgres://postgres@/%s?host=%s", name, s.dir)
}

func (s *Server) connect(name string) *sql.DB {
	db, err := sql.Open("pgx", s.url(name))
	if err != nil {
		s.tb.Fatal(err)
	}
	return db
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.WithoutCancel(s.tb.Context()), s.binary(name), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential(), Pdeathsig: syscall.SIGQUIT}
	return cmd
}

func (s *Server) binary(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) == 0 {
		s.tb.Fatalf("%s is not here: apt-get install postgresql", name)
	}
	return slices.Max(found)
}

// credential is nobody's when we are root: PostgreSQL refuses to run as root.
func (s *Server) credential() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		s.tb.Fatal(err)
	}
	uid, _ := strconv.ParseUint(nobody.Uid, 10, 32)
	gid, _ := strconv.ParseUint(nobody.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
