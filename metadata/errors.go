package metadata

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/molecule-ai/pendinguploads/storage"
)

// Sentinels beside those of package storage (ErrNotFound,
// ErrWorkspaceNotFound); compare with errors.Is.
var (
	// ErrDatabaseURL: the connection string cannot be parsed. It is not quoted
	// anywhere, because it may hold a password.
	ErrDatabaseURL = errors.New("database URL is not a PostgreSQL connection string")

	// ErrCommitUnknown: the connection failed while a transaction committed, so
	// it may have taken effect or not. What the transaction refers to must be
	// kept.
	ErrCommitUnknown = errors.New("outcome of commit is unknown")

	// ErrSchema: a table or a column is missing that a migration makes.
	ErrSchema = errors.New("the database lacks migrations of this module")

	// ErrCursorNotFound: no row of this feed has that id (any more).
	ErrCursorNotFound = errors.New("cursor not found")

	// ErrInvalidJSON: a body is no JSON, or text that PostgreSQL cannot hold (a NUL
	// character, half of a surrogate pair), or, as *JSONError, beyond a bound.
	ErrInvalidJSON = errors.New("value cannot be stored")

	// ErrTokenNotFound: no token has that secret or id, or it is revoked, or its
	// workspace is removed.
	ErrTokenNotFound = errors.New("token not found")

	// ErrTokenLimit: the workspace has MaxLiveTokens already.
	ErrTokenLimit = errors.New("too many live tokens")

	// ErrTokenRequired: the workspace holds a live instance token, so nobody may
	// register it without one.
	ErrTokenRequired = errors.New("workspace has a live instance token")

	// ErrWorkspaceRemoved: the workspace was removed before.
	ErrWorkspaceRemoved = errors.New("workspace is removed")

	// ErrWorkspaceExists: the id is taken.
	ErrWorkspaceExists = errors.New("workspace exists")

	// ErrHasChildren: the workspace has live children.
	ErrHasChildren = errors.New("workspace has children")

	// ErrNameTaken: a live workspace with the same parent has that name.
	ErrNameTaken = errors.New("workspace name is taken")
)

// SQLSTATE codes that are translated.
const (
	codeNumericRange      = "22003"
	codeCharNotInRep      = "22021"
	codeInvalidText       = "22P02"
	codeUntranslatable    = "22P05"
	codeForeignKey        = "23503"
	codeUnique            = "23505"
	codeCheck             = "23514"
	codeUndefinedColumn   = "42703"
	codeUndefinedTable    = "42P01"
	codeProgramLimit      = "54000"
	codeStatementTooDeep  = "54001"
	constraintFilename    = "pending_uploads_filename_check"
	constraintSize        = "pending_uploads_size_bytes_check"
	constraintFeedWS      = "activity_feeds_workspace_fkey"
	constraintLogWS       = "activity_logs_workspace_fkey"
	constraintTokenWS     = "workspace_auth_tokens_workspace_fkey"
	constraintDeliveryWS  = "inbox_delivery_state_workspace_fkey"
	constraintParent      = "workspaces_parent_fkey"
	constraintMessage     = "activity_logs_message_key"
	constraintName        = "workspaces_name_key"
	constraintWorkspaceID = "workspaces_pkey"
)

// translate wraps err with the sentinel that its SQLSTATE and constraint stand
// for. Errors that stand for none are returned as they are.
func translate(err error) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err
	}
	if sentinel := sentinelOf(pgErr); sentinel != nil {
		return fmt.Errorf("%w: %w", sentinel, err)
	}
	return err
}

func sentinelOf(e *pgconn.PgError) error {
	switch e.Code {
	case codeForeignKey:
		switch e.ConstraintName {
		case constraintFeedWS, constraintLogWS, constraintTokenWS, constraintDeliveryWS, constraintParent:
			return storage.ErrWorkspaceNotFound
		}
	case codeUnique:
		switch e.ConstraintName {
		case constraintName:
			return ErrNameTaken
		case constraintWorkspaceID:
			return ErrWorkspaceExists
		}
	case codeCheck:
		switch e.ConstraintName {
		case constraintFilename:
			return storage.ErrInvalidFilename
		case constraintSize:
			return storage.ErrTooLarge
		}
	case codeUndefinedColumn, codeUndefinedTable:
		return ErrSchema
	case codeInvalidText, codeUntranslatable, codeCharNotInRep, codeNumericRange, codeStatementTooDeep, codeProgramLimit:
		return ErrInvalidJSON
	}
	return nil
}

// RefusedRow reports whether the server refused a statement for what it would have
// done to some row, as a constraint or a trigger does. Any other failure, such as a
// connection that broke or a server that is read-only, full or shutting down, meets
// every statement alike (PostgreSQL manual, appendix A: classes of SQLSTATE).
func RefusedRow(err error) bool {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || len(pgErr.Code) != 5 {
		return false
	}
	switch pgErr.Code[:2] {
	case "08", "25", "53", "57", "58", "XX":
		return false
	}
	return true
}

// violates reports whether err is a violation of the named unique constraint.
func violates(err error, constraint string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == codeUnique && pgErr.ConstraintName == constraint
}
