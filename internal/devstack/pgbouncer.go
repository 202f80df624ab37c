package devstack

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// PgBouncer returns the URL of a PgBouncer in transaction mode before the database,
// whose clients share so many sessions of the server. It runs until the package's
// tests have ended. It must be installed: it is not looked for elsewhere.
func PgBouncer(tb testing.TB, databaseURL string, sessions int) string {
	tb.Helper()
	ctx, stack := stackFor(tb)
	pooled, err := stack.pgBouncer(ctx, databaseURL, sessions)
	if err != nil {
		tb.Fatal(err)
	}
	return pooled
}

// pgBouncerSettings let everybody who reaches the port in, as the database's user.
const pgBouncerSettings = `[databases]
%s = host=%s port=%d user=%s password=%s
[pgbouncer]
listen_addr = %s
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = %d
max_client_conn = 1000
`

func (s *Stack) pgBouncer(ctx context.Context, databaseURL string, sessions int) (pooled string, err error) {
	program, err := pgBouncerProgram(s.cfg.Getenv("PATH"))
	if err != nil {
		return "", err
	}
	database, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return "", fmt.Errorf("database behind PgBouncer: %w", err)
	}
	u, err := url.Parse(databaseURL)
	if err != nil {
		return "", fmt.Errorf("database behind PgBouncer: %w", err)
	}
	cred, err := unprivileged() // it refuses root, as PostgreSQL does
	if err != nil {
		return "", err
	}
	owner, err := s.own(ctx)
	if err != nil {
		return "", err
	}
	name := "pgbouncer-" + database.Database
	dir, err := owner.folder(name, cred)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "pgbouncer.ini")
	var wrote error
	behind := func(addr string) string {
		u.Host = addr
		return u.String()
	}
	addr, err := s.runProcess(ctx, localServer{
		name:    name,
		program: program,
		args: func(addr string) []string {
			host, port := splitAddr(addr)
			settings := fmt.Sprintf(pgBouncerSettings,
				database.Database, database.Host, database.Port, quoted(database.User), quoted(database.Password), host, port, sessions)
			wrote = errors.Join(os.WriteFile(file, []byte(settings), 0o600), giveTo(file, cred))
			return []string{file}
		},
		cred: cred,
		stop: syscall.SIGTERM,
		answers: func(ctx context.Context, addr string) error {
			return answersSQL(ctx, behind(addr))
		},
	})
	if err := errors.Join(wrote, err); err != nil {
		return "", err
	}
	return behind(addr), nil
}

func quoted(value string) string { return "'" + strings.ReplaceAll(value, "'", "''") + "'" }

// pgBouncerProgram is on PATH, or where packages put programs that run as servers.
func pgBouncerProgram(path string) (string, error) {
	for _, dir := range append(filepath.SplitList(path), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin") {
		if file := filepath.Join(dir, "pgbouncer"); executable(file) {
			return file, nil
		}
	}
	return "", errors.New("pgbouncer is neither on PATH nor in the usual places: install the package of that name")
}
