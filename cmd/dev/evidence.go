package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// evidence is what lies in the bucket and in the table.
type evidence struct {
	keys []string
	rows []row
}

// row is a row of pending_uploads.
type row struct {
	FileID    string  `db:"file_id"`
	Filename  string  `db:"filename"`
	SizeBytes int64   `db:"size_bytes"`
	ObjectKey *string `db:"object_key"`
	Fetched   bool    `db:"fetched"`
	Acked     bool    `db:"acked"`
}

const selectRows = `
SELECT file_id::text, filename, size_bytes, object_key, fetched_at IS NOT NULL AS fetched, acked_at IS NOT NULL AS acked
FROM pending_uploads
WHERE workspace_id = @workspace
ORDER BY size_bytes`

// look reads the bucket and the table past the service.
func look(ctx context.Context, databaseURL string, server devstack.S3, workspace string) (found evidence, err error) {
	pages := s3.NewListObjectsV2Paginator(server.Client(), &s3.ListObjectsV2Input{Bucket: aws.String(server.Bucket)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return found, fmt.Errorf("list bucket %s: %w", server.Bucket, err)
		}
		for _, object := range page.Contents {
			found.keys = append(found.keys, aws.ToString(object.Key))
		}
	}
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return found, fmt.Errorf("read pending_uploads: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	rows, err := conn.Query(ctx, selectRows, pgx.NamedArgs{"workspace": workspace})
	if err != nil {
		return found, fmt.Errorf("read pending_uploads: %w", err)
	}
	found.rows, err = pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		return found, fmt.Errorf("read pending_uploads: %w", err)
	}
	return found, nil
}

// show prints the evidence, one line for each thing.
func (e evidence) show(con console, when string) {
	con.say("%s: %d objects in the bucket, %d rows in the table", when, len(e.keys), len(e.rows))
	for _, key := range e.keys {
		con.say("    object %s", key)
	}
	for _, r := range e.rows {
		con.say("    row    %s %s, %d bytes, fetched %t, acked %t", r.FileID, r.Filename, r.SizeBytes, r.Fetched, r.Acked)
	}
}

// holds reports an error unless there is one row and one object for each of n
// files, the row naming the object, and the rows are acked or not as said.
func (e evidence) holds(n int, acked bool) error {
	if len(e.rows) != n || len(e.keys) != n {
		return fmt.Errorf("want %d of each", n)
	}
	for _, r := range e.rows {
		if r.ObjectKey == nil || !slices.Contains(e.keys, *r.ObjectKey) {
			return fmt.Errorf("row %s names no object of the bucket", r.FileID)
		}
		// A receiver that acks at once may be quicker than the note of its fetch.
		if r.Acked != acked || r.Fetched && !acked {
			return fmt.Errorf("row %s has fetched %t and acked %t, want acked %t", r.FileID, r.Fetched, r.Acked, acked)
		}
	}
	return nil
}
