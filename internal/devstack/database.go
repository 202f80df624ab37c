package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/migrations"
)

// CreateDatabase makes a database of a new name, without any table, and
// returns its URL.
func (s *Stack) CreateDatabase(ctx context.Context) (string, error) {
	return s.createDatabase(ctx, "template0")
}

// CreateMigratedDatabase makes a database of a new name with both migration
// sets applied, and returns its URL. The sets are applied once, to a template.
func (s *Stack) CreateMigratedDatabase(ctx context.Context) (string, error) {
	template, err := s.template.get(func() (string, error) {
		databaseURL, err := s.CreateDatabase(ctx)
		if err != nil {
			return "", err
		}
		if _, err := s.onStop(ctx, func(ctx context.Context) error { return s.DropDatabase(ctx, databaseURL) }); err != nil {
			return "", err
		}
		if _, err := migrations.Up(ctx, databaseURL, migrations.Uploads, migrations.Service); err != nil {
			return "", fmt.Errorf("migrate the template database: %w", err)
		}
		return databaseName(databaseURL)
	})
	if err != nil {
		return "", err
	}
	return s.createDatabase(ctx, template)
}

func (s *Stack) createDatabase(ctx context.Context, template string) (string, error) {
	server, err := s.Postgres(ctx)
	if err != nil {
		return "", err
	}
	name := "devstack_" + strings.ToLower(rand.Text())
	statement := "CREATE DATABASE " + pgx.Identifier{name}.Sanitize() + " TEMPLATE " + pgx.Identifier{template}.Sanitize()
	if started, _ := s.postgres.peek(); started.copies {
		// About half the time of the default, where nothing is flushed.
		statement += " STRATEGY FILE_COPY"
	}
	if err := execute(ctx, server, statement); err != nil {
		return "", fmt.Errorf("create database %s: %w", name, err)
	}
	u, err := url.Parse(server)
	if err != nil {
		return "", fmt.Errorf("DATABASE_URL is not in the form of a URL: %w", err)
	}
	u.Path = "/" + name
	return u.String(), nil
}

// DropDatabase drops a database that CreateDatabase or CreateMigratedDatabase
// made, whoever is connected to it.
func (s *Stack) DropDatabase(ctx context.Context, databaseURL string) error {
	server, err := s.Postgres(ctx)
	if err != nil {
		return err
	}
	name, err := databaseName(databaseURL)
	if err != nil {
		return err
	}
	if err := execute(ctx, server, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

func databaseName(databaseURL string) (string, error) {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return "", fmt.Errorf("parse database URL: %w", err)
	}
	return strings.TrimPrefix(u.Path, "/"), nil
}

func execute(ctx context.Context, databaseURL, statement string) error {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}
