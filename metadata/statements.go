package metadata

import (
	"fmt"
	"strings"
)

// uploadStatements are the statements that name one upload. They differ in how
// it is named, and in the columns that the table has.
type uploadStatements struct {
	get, getContent, readInline string
	markFetched, ack, live      string
	insertColumns               string
	insertRow                   string // with the row's number in place of every #
	reference                   bool
}

const (
	selectUploadSQL = `
SELECT workspace_id, file_id, filename, mimetype, created_at, fetched_at, acked_at, expires_at,
       size_bytes, {digest}, {key}{more}
FROM pending_uploads
WHERE {its} AND expires_at > statement_timestamp() {unswept}
  AND (@acked OR acked_at IS NULL)`

	readInlineSQL = `
SELECT substring(content FROM @start FOR @length)
FROM pending_uploads
WHERE {its} AND content IS NOT NULL`

	markFetchedSQL = `
UPDATE pending_uploads
SET fetched_at = statement_timestamp()
WHERE {its} AND expires_at > statement_timestamp() {unswept}
  AND (@acked OR acked_at IS NULL)`

	ackUploadSQL = `
UPDATE pending_uploads
SET acked_at = statement_timestamp()
WHERE {its} AND acked_at IS NULL AND expires_at > statement_timestamp() {unswept}`

	liveUploadSQL = `
SELECT EXISTS (
    SELECT FROM pending_uploads
    WHERE {its} AND expires_at > statement_timestamp() {unswept})`
)

// statementsFor returns the statements for a table with or without this module's
// columns, with or without the workspace in the predicate.
func statementsFor(reference, anyWorkspace bool) uploadStatements {
	words := map[string]string{
		"{its}":     "workspace_id = @workspace AND file_id = @file",
		"{unswept}": "AND sweeping_at IS NULL",
		"{digest}":  "coalesce(sha256, sha256(content))",
		"{key}":     "object_key",
		"{more}":    "",
	}
	if anyWorkspace {
		words["{its}"] = "file_id = @file"
	}
	if reference {
		words["{unswept}"], words["{digest}"], words["{key}"] = "", "sha256(content)", "NULL::text"
	}
	fill := func(sql string) string {
		pairs := make([]string, 0, 2*len(words))
		for word, text := range words {
			pairs = append(pairs, word, text)
		}
		return strings.NewReplacer(pairs...).Replace(sql)
	}
	s := uploadStatements{
		get: fill(selectUploadSQL), readInline: fill(readInlineSQL),
		markFetched: fill(markFetchedSQL), ack: fill(ackUploadSQL), live: fill(liveUploadSQL),
		insertColumns: "object_key, sha256, ", insertRow: "@key#, @digest#, ", reference: reference,
	}
	// Who gets the content can compute its digest, which the server need not then.
	words["{more}"] = ", content"
	if reference {
		words["{digest}"] = "NULL::bytea"
	} else {
		words["{digest}"] = "sha256"
	}
	s.getContent = fill(selectUploadSQL)
	if reference {
		s.insertColumns, s.insertRow = "", ""
	}
	return s
}

// insert is the statement that inserts n rows, with arguments numbered from 0.
func (s uploadStatements) insert(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
INSERT INTO pending_uploads
    (%sworkspace_id, file_id, content, size_bytes, filename, mimetype, created_at, expires_at)
VALUES`, s.insertColumns)
	row := "\n    (" + s.insertRow + "@workspace, @file#, @content#, @size#, @filename#, @mimetype#, statement_timestamp(), statement_timestamp() + @ttl::interval)"
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strings.ReplaceAll(row, "#", fmt.Sprint(i)))
	}
	b.WriteString("\nRETURNING created_at, expires_at")
	return b.String()
}
