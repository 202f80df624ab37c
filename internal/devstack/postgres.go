package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const defaultPostgresImage = "postgres:17-trixie"

// postgresServer is a running PostgreSQL.
type postgresServer struct {
	url string // of the maintenance database
	// copies tells that a database is cloned fastest by copying files: the
	// server was started here, flushes nothing, and knows how.
	copies bool
}

// Postgres starts PostgreSQL, if it was not started yet, and returns the URL
// of its maintenance database, whose user may create databases.
func (s *Stack) Postgres(ctx context.Context) (string, error) {
	server, err := s.postgres.get(func() (postgresServer, error) {
		return choose(ctx, s.cfg.Log, "PostgreSQL", s.cfg.Getenv("DEVSTACK"), s.postgresWays())
	})
	return server.url, err
}

func (s *Stack) postgresWays() []way[postgresServer] {
	var ways []way[postgresServer]
	if named := s.cfg.Getenv("DATABASE_URL"); named != "" {
		ways = append(ways, way[postgresServer]{start: func(ctx context.Context) (postgresServer, string, error) {
			return namedPostgres(ctx, named)
		}})
	}
	return append(ways,
		way[postgresServer]{kind: forceDocker, start: s.dockerPostgres},
		way[postgresServer]{kind: forceLocal, start: s.installedPostgres},
		way[postgresServer]{kind: forceLocal, start: s.downloadedPostgres},
	)
}

// namedPostgres is the server that DATABASE_URL names.
func namedPostgres(ctx context.Context, databaseURL string) (postgresServer, string, error) {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return postgresServer{}, "", fmt.Errorf("DATABASE_URL: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := answersSQL(ctx, databaseURL); err != nil {
		return postgresServer{}, "", fmt.Errorf("DATABASE_URL is set, but: %w", err)
	}
	return postgresServer{url: databaseURL}, fmt.Sprintf("the server at %s:%d, because DATABASE_URL names it", config.Host, config.Port), nil
}

// postgresSettings are the server's settings. One whose data is thrown away
// need not flush to disk.
func postgresSettings(durable bool) []string {
	settings := []string{"-c", "max_connections=400", "-c", "jit=off"}
	if !durable {
		settings = append(settings,
			"-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off",
			"-c", "wal_level=minimal", "-c", "max_wal_senders=0", "-c", "max_wal_size=4GB", "-c", "checkpoint_timeout=1h")
	}
	return settings
}

func postgresURL(addr, password string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", password), Host: addr, Path: "/postgres", RawQuery: "sslmode=disable"}
	return u.String()
}

func answersSQL(ctx context.Context, databaseURL string) error {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "SELECT 1")
	return errors.Join(err, conn.Close(ctx))
}

func (s *Stack) dockerPostgres(ctx context.Context) (postgresServer, string, error) {
	image := s.env("POSTGRES_IMAGE", defaultPostgresImage)
	password, err := s.secret("postgres")
	if err != nil {
		return postgresServer{}, "", err
	}
	durable := s.cfg.Data != ""
	addr, err := s.runContainer(ctx, containerSpec{
		image: image,
		port:  "5432/tcp",
		env: map[string]string{
			"POSTGRES_USER": "postgres", "POSTGRES_PASSWORD": password, "POSTGRES_INITDB_ARGS": "--no-sync",
		},
		command: append([]string{"postgres"}, postgresSettings(durable)...),
		folders: map[string]string{"/var/lib/postgresql/data": s.volume("postgres")},
		volumes: durable,
	}, func(ctx context.Context, addr string) error {
		return answersSQL(ctx, postgresURL(addr, password))
	})
	if err != nil {
		return postgresServer{}, "", err
	}
	server, err := s.startedPostgres(ctx, postgresURL(addr, password))
	return server, fmt.Sprintf("container of %s at %s", image, addr), err
}

func (s *Stack) installedPostgres(ctx context.Context) (postgresServer, string, error) {
	bin, err := postgresPrograms(s.cfg.Getenv("PATH"))
	if err != nil {
		return postgresServer{}, "", err
	}
	return s.localPostgres(ctx, bin)
}

// localPostgres runs the programs of a folder as a local process.
func (s *Stack) localPostgres(ctx context.Context, bin string) (postgresServer, string, error) {
	cred, err := unprivileged()
	if err != nil {
		return postgresServer{}, "", err
	}
	owner, err := s.own(ctx)
	if err != nil {
		return postgresServer{}, "", err
	}
	password, err := s.secret("postgres")
	if err != nil {
		return postgresServer{}, "", err
	}
	data, err := s.dataFor(owner, "postgres", cred)
	if err != nil {
		return postgresServer{}, "", err
	}
	if err := initdb(ctx, owner, bin, data, password, cred); err != nil {
		return postgresServer{}, "", err
	}
	addr, err := s.runProcess(ctx, localServer{
		name:    "postgres",
		program: filepath.Join(bin, "postgres"),
		args: func(addr string) []string {
			host, port := splitAddr(addr)
			return append([]string{"-D", data, "-h", host, "-p", fmt.Sprint(port), "-k", ""}, postgresSettings(s.cfg.Data != "")...)
		},
		cred: cred,
		stop: s.postgresStop(),
		answers: func(ctx context.Context, addr string) error {
			return answersSQL(ctx, postgresURL(addr, password))
		},
	})
	if err != nil {
		return postgresServer{}, "", err
	}
	server, err := s.startedPostgres(ctx, postgresURL(addr, password))
	return server, fmt.Sprintf("local process of %s at %s", bin, addr), err
}

// startedPostgres describes a server that was started here.
func (s *Stack) startedPostgres(ctx context.Context, databaseURL string) (postgresServer, error) {
	const copyStrategy = 15 // the version that lets the strategy be chosen
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return postgresServer{}, fmt.Errorf("ask PostgreSQL for its version: %w", err)
	}
	server := postgresServer{
		url:    databaseURL,
		copies: s.cfg.Data == "" && version(conn.PgConn().ParameterStatus("server_version")) >= copyStrategy,
	}
	return server, conn.Close(ctx)
}

// postgresStop is the signal that ends PostgreSQL: fast shutdown, or without
// writing anything back where the data is thrown away.
func (s *Stack) postgresStop() syscall.Signal {
	if s.cfg.Data != "" {
		return syscall.SIGINT
	}
	return syscall.SIGQUIT
}

// initdb makes a cluster in data, unless there is one.
func initdb(ctx context.Context, owner *owner, bin, data, password string, cred *syscall.Credential) error {
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err == nil {
		return nil
	}
	passwordFile := filepath.Join(owner.dir, "postgres-password")
	if err := os.WriteFile(passwordFile, []byte(password+"\n"), 0o600); err != nil {
		return fmt.Errorf("write password file: %w", err)
	}
	defer func() { _ = os.Remove(passwordFile) }()
	if err := giveTo(passwordFile, cred); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "--pwfile", passwordFile,
		"--auth=scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync")
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb in %s: %w: %s", bin, err, tail(out))
	}
	return nil
}

// env is an environment variable or its default.
func (s *Stack) env(key, fallback string) string {
	if value := s.cfg.Getenv(key); value != "" {
		return value
	}
	return fallback
}

// newSecret is a password that no other server has, so that a server that
// happens to listen on the same port cannot be taken for ours.
func newSecret() string { return strings.ToLower(rand.Text()) }
