package pendinguploads_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads"
	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// As the platforms keep files today: in the row, on their own table.
func ExampleNewPostgres() {
	ctx, db, done := openPlatform() // a *sql.DB on lib/pq, with the platform's table
	defer done()

	uploads := pendinguploads.NewPostgres(db)

	workspace := uuid.New()
	id, err := uploads.Put(ctx, workspace, []byte("hello"), pendinguploads.SanitizeFilename("my notes.txt"), "text/plain")
	check(err)
	r, err := uploads.Get(ctx, id)
	check(err)
	fmt.Printf("%s, %d bytes: %s\n", r.Filename, r.SizeBytes, r.Content)

	check(uploads.Ack(ctx, id))
	_, err = uploads.Get(ctx, id)
	fmt.Println(errors.Is(err, pendinguploads.ErrNotFound))
	// Output:
	// my_notes.txt, 5 bytes: hello
	// true
}

// The same table, migrated, with new files in an object store.
func ExampleNewS3() {
	ctx, db, done := openPlatform()
	defer done()
	inRow, err := pendinguploads.NewPostgres(db).Put(ctx, uuid.New(), []byte("staged before"), "a.txt", "text/plain")
	check(err)

	buffers, err := blob.NewPool(blob.PoolConfig{MaxWait: time.Minute})
	check(err)
	objects, err := s3blob.Open(ctx, bucket(buffers)) // s3blob.Config{Bucket: "uploads", Pool: buffers}
	check(err)
	check(pendinguploads.Migrate(ctx, db))
	uploads := pendinguploads.NewS3(db, objects)

	inObject, err := uploads.Put(ctx, uuid.New(), []byte("staged after"), "b.txt", "text/plain")
	check(err)
	for _, id := range []uuid.UUID{inRow, inObject} {
		r, err := uploads.Get(ctx, id)
		check(err)
		fmt.Printf("%s: %s\n", r.Filename, r.Content)
	}
	// Output:
	// a.txt: staged before
	// b.txt: staged after
}

// Files and the platform's own entries for them, in one transaction.
func ExampleStore_PutBatchTx() {
	ctx, db, done := openPlatform()
	defer done()
	_, err := db.ExecContext(ctx, `CREATE TABLE activity (workspace_id uuid, uri text, name text)`)
	check(err)
	uploads := pendinguploads.NewPostgres(db) // or NewS3: nothing below changes

	stage := func(workspace uuid.UUID, files []pendinguploads.PutItem) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() //nolint:errcheck // nothing to do after the commit
		ids, err := uploads.PutBatchTx(ctx, tx, workspace, files)
		if err != nil {
			return err
		}
		for i, id := range ids {
			uri := fmt.Sprintf("platform-pending:%s/%s", workspace, id)
			if _, err := tx.ExecContext(ctx, `INSERT INTO activity VALUES ($1, $2, $3)`, workspace, uri, files[i].Filename); err != nil {
				return err // and no file of the request is staged
			}
		}
		return tx.Commit()
	}
	check(stage(uuid.New(), []pendinguploads.PutItem{
		{Content: []byte("one"), Filename: "a.txt", Mimetype: "text/plain"},
		{Content: []byte("two"), Filename: "b.txt", Mimetype: "text/plain"},
	}))

	var entries, files int
	check(db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM activity), (SELECT count(*) FROM pending_uploads)`).Scan(&entries, &files))
	fmt.Println(entries, "entries,", files, "files")
	// Output: 2 entries, 2 files
}

// A URL of the object store itself, where there is one, and else the bytes.
func ExampleRecord_URL() {
	ctx, db, done := openPlatform()
	defer done()
	check(pendinguploads.Migrate(ctx, db))
	buffers, err := blob.NewPool(blob.PoolConfig{MaxWait: time.Minute})
	check(err)
	objects, err := s3blob.Open(ctx, bucket(buffers))
	check(err)
	uploads := pendinguploads.NewS3(db, objects, pendinguploads.WithInlineMaxBytes(10))

	for _, content := range []string{"small", "large enough for an object"} {
		id, err := uploads.Put(ctx, uuid.New(), []byte(content), "report.txt", "text/plain")
		check(err)

		r, err := uploads.Lookup(ctx, id) // a handler compares r.WorkspaceID now
		check(err)
		url, _, err := r.URL(ctx, 5*time.Minute)
		if errors.Is(err, pendinguploads.ErrNoURL) {
			body, err := r.Open(ctx)
			check(err)
			bytes, err := io.ReadAll(body)
			check(errors.Join(err, body.Close()))
			fmt.Printf("from the row: %s\n", bytes)
			continue
		}
		check(err)
		fmt.Printf("from the store: %s\n", fetch(url))
	}
	// Output:
	// from the row: small
	// from the store: large enough for an object
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// openPlatform is a database with the table as the platforms have it.
func openPlatform() (ctx context.Context, db *sql.DB, done func()) {
	run := &exampleRun{}
	return run.Context(), openSQL(run, "postgres", referenceDatabase(run)), run.end
}

// bucket is an empty one, which stays until the servers are stopped.
func bucket(pool *blob.Pool) s3blob.Config {
	s := devstack.MinIO(&exampleRun{})
	return s3blob.Config{
		Bucket: s.Bucket, Region: s.Region, Endpoint: s.Endpoint, PathStyle: s.PathStyle, Pool: pool,
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, s.SessionToken),
	}
}

func fetch(url string) string {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	reply, err := client.Get(url)
	check(err)
	body, err := io.ReadAll(reply.Body)
	check(errors.Join(err, reply.Body.Close()))
	return string(body)
}

// exampleRun is what an example has in the place of a test: what devstack asks for
// of testing.TB.
type exampleRun struct {
	testing.TB
	cleanups []func()
}

func (*exampleRun) Helper()          {}
func (*exampleRun) Fatal(why ...any) { panic(fmt.Sprint(why...)) }
func (*exampleRun) Error(why ...any) { panic(fmt.Sprint(why...)) }

func (*exampleRun) Context() context.Context {
	return context.Background() //nolint:forbidigo // there is no test to take it from
}

func (e *exampleRun) Cleanup(f func()) { e.cleanups = append(e.cleanups, f) }

// end cleans up, last first.
func (e *exampleRun) end() {
	for i := len(e.cleanups) - 1; i >= 0; i-- {
		e.cleanups[i]()
	}
}
