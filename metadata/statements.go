package metadata

import (
	"fmt"
	"strings"

	"github.com/molecule-ai/pendinguploads/storage"
)

// uploadStatements are the statements of pending_uploads. They differ in how an
// upload is named, and in the columns that the table has. All of them that name
// one take the same arguments, see its.
type uploadStatements struct {
	get, getContent, readInline string
	getFetched                  string
	markFetched, ack, live      string
	reference                   bool

	insertOne string // insert(1)
}

// unackedSQL is acked_at IS NULL in words from which PostgreSQL does not conclude
// that the indexes of unacked rows would do. An upload is found by its key: until
// the table's first ANALYZE those indexes look as cheap, and lead to all rows of the
// workspace, or of everybody.
const unackedSQL = "num_nulls(acked_at) = 1"

const (
	selectUploadSQL = `
SELECT workspace_id, file_id, filename, mimetype, created_at, fetched_at, acked_at, expires_at,
       size_bytes, {digest}, {key}{more}
FROM pending_uploads
WHERE {its} AND expires_at > statement_timestamp() {unswept}
  AND ($3 OR {unacked})`

	readInlineSQL = `
SELECT substring(content FROM $3 FOR $4)
FROM pending_uploads
WHERE {its} AND content IS NOT NULL`

	markFetchedSQL = `
UPDATE pending_uploads
SET fetched_at = statement_timestamp()
WHERE {its} AND expires_at > statement_timestamp() {unswept}
  AND ($3 OR {unacked})`

	ackUploadSQL = `
UPDATE pending_uploads
SET acked_at = statement_timestamp()
WHERE {its} AND {unacked} AND expires_at > statement_timestamp() {unswept}`

	liveUploadSQL = `
SELECT EXISTS (
    SELECT FROM pending_uploads
    WHERE {its} AND expires_at > statement_timestamp() {unswept})`
)

// statementsFor returns the statements for a table with or without this module's
// columns, with or without the workspace in the predicate.
func statementsFor(reference, anyWorkspace bool) *uploadStatements {
	words := map[string]string{
		"{its}":     "workspace_id = $1 AND file_id = $2",
		"{unacked}": unackedSQL,
		"{unswept}": "AND sweeping_at IS NULL",
		"{digest}":  "coalesce(sha256, sha256(content))",
		"{key}":     "object_key",
		"{more}":    "",
	}
	if anyWorkspace {
		words["{its}"] = "$1::uuid IS NOT NULL AND file_id = $2"
	}
	if reference {
		// Where others moved the content into an object, its key cannot be asked for.
		words["{unswept}"], words["{digest}"], words["{key}"] = "", "sha256(content)", "CASE WHEN content IS NULL THEN '(key unknown)' END"
	}
	fill := func(sql string) string {
		pairs := make([]string, 0, 2*len(words))
		for word, text := range words {
			pairs = append(pairs, word, text)
		}
		return strings.NewReplacer(pairs...).Replace(sql)
	}
	s := &uploadStatements{
		reference: reference,
		get:       fill(selectUploadSQL), readInline: fill(readInlineSQL), getFetched: fill(getFetchedSQL),
		markFetched: fill(markFetchedSQL), ack: fill(ackUploadSQL), live: fill(liveUploadSQL),
	}
	// Who gets the content can compute its digest, which the server need not then.
	words["{more}"] = ", content"
	if reference {
		words["{digest}"] = "NULL::bytea"
	} else {
		words["{digest}"] = "sha256"
	}
	s.getContent = fill(selectUploadSQL)
	s.insertOne = s.insert(1)
	return s
}

// its are the arguments that name an upload, and further ones.
func its(ws storage.WorkspaceID, f storage.FileID, more ...any) []any {
	return append([]any{wsArg(ws), fileArg(f)}, more...)
}

// insert is the statement that inserts n rows. Its arguments are the workspace, the
// TTL, and then those of each row, see rowArgs.
func (s *uploadStatements) insert(n int) string {
	if n == 1 && s.insertOne != "" {
		return s.insertOne
	}
	columns := []string{"file_id", "content", "size_bytes", "filename", "mimetype"}
	if !s.reference {
		columns = append(columns, "object_key", "sha256")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nINSERT INTO pending_uploads (workspace_id, created_at, expires_at, %s)\nVALUES", strings.Join(columns, ", "))
	for row := range n {
		if row > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n    ($1, statement_timestamp(), statement_timestamp() + $2::interval")
		for i := range columns {
			fmt.Fprintf(&b, ", $%d", 3+row*len(columns)+i)
		}
		b.WriteByte(')')
	}
	b.WriteString("\nRETURNING created_at, expires_at")
	return b.String()
}

// rowArgs are the arguments of one row of insert.
func (s *uploadStatements) rowArgs(up *NewUpload) []any {
	args := []any{fileArg(up.FileID), up.Content, up.Size, up.Filename, up.MIMEType}
	if s.reference {
		return args
	}
	var key, digest any
	if up.ObjectKey != "" {
		key = up.ObjectKey
	}
	if !up.SHA256.IsZero() {
		digest = up.SHA256[:]
	}
	return append(args, key, digest)
}
