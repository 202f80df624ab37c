package staging_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/memblob"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// moving is an upload of 3 MiB that can be moved by hand.
type moving struct {
	*staging.Store
	rows    *metadata.Uploads
	objects *faulty
	r       storage.Record
	content []byte
	digest  storage.Digest
	key     string
}

func newMoving(t *testing.T) *moving {
	t.Helper()
	pool, err := blob.NewPool(blob.PoolConfig{})
	if err != nil {
		t.Fatal(err)
	}
	m := &moving{rows: newRows(t), objects: &faulty{Store: memblob.New(), after: 1000}}
	m.Store, err = staging.New(staging.Config{
		Rows: m.rows, Objects: m.objects, Budget: pool, InlineMaxBytes: 4 * storage.MiB, KeyPrefix: prefix, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * storage.MiB / 4 {
		m.content = append(m.content, byte(i), byte(i>>8), byte(i>>16), 'x')
	}
	m.digest = sha256.Sum256(m.content)
	if m.r, err = m.Put(t.Context(), workspace(t), storage.Upload{Filename: "a", Body: bytes.NewReader(m.content)}); err != nil {
		t.Fatal(err)
	}
	keys, err := staging.Keys(prefix)
	if err != nil {
		t.Fatal(err)
	}
	m.key = keys(m.r.WorkspaceID, m.r.FileID)
	return m
}

func (m *moving) id() metadata.UploadID {
	return metadata.UploadID{Workspace: m.r.WorkspaceID, File: m.r.FileID}
}

func (m *moving) toObject(t *testing.T) {
	t.Helper()
	if err := m.objects.Put(t.Context(), m.key, bytes.NewReader(m.content), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if moved, err := m.rows.MoveToObjects(t.Context(), metadata.ObjectMove{UploadID: m.id(), Key: m.key, SHA256: m.digest}); err != nil || moved[m.id()] != metadata.FlipMoved {
		t.Fatal(moved, err)
	}
}

// toRow moves the content back, and takes the object away at once: transfers of
// it break after 1,000 bytes.
func (m *moving) toRow(t *testing.T) {
	t.Helper()
	if moved, err := m.rows.MoveToRow(t.Context(), m.id(), m.key, m.digest, m.content); err != nil || !moved {
		t.Fatal(moved, err)
	}
	if err := m.objects.Delete(t.Context(), m.key); err != nil {
		t.Fatal(err)
	}
}

func (m *moving) ack(t *testing.T) {
	t.Helper()
	if err := m.Ack(t.Context(), m.r.WorkspaceID, m.r.FileID); err != nil {
		t.Fatal(err)
	}
}

func (m *moving) get(t *testing.T) storage.Content {
	t.Helper()
	r, err := m.Get(t.Context(), m.r.WorkspaceID, m.r.FileID)
	if err != nil {
		t.Fatal(err)
	}
	return r.Content
}

func TestContentThatMovesWhileItIsReadIsReadOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		object bool // where the content lies at first
		move   func(t *testing.T, m *moving)
	}{
		"from the row into an object":          {false, func(t *testing.T, m *moving) { m.toObject(t) }},
		"and is acked":                         {false, func(t *testing.T, m *moving) { m.toObject(t); m.ack(t) }},
		"there and back":                       {false, func(t *testing.T, m *moving) { m.toObject(t); m.toRow(t) }},
		"from the object into its row":         {true, func(t *testing.T, m *moving) { m.toRow(t) }},
		"from the object, and is acked":        {true, func(t *testing.T, m *moving) { m.toRow(t); m.ack(t) }},
		"from the object and back there":       {true, func(t *testing.T, m *moving) { m.toRow(t); m.toObject(t) }},
		"from the object, back, and off again": {true, func(t *testing.T, m *moving) { m.toRow(t); m.toObject(t); m.toRow(t) }},
	} {
		for part, span := range map[string]storage.Range{"whole": {}, "range": {Offset: 12345, Length: 2*storage.MiB + 77}} {
			t.Run(name+", "+part, func(t *testing.T) {
				t.Parallel()
				m := newMoving(t)
				if c.object {
					m.toObject(t)
				}
				content := m.get(t)
				m.objects.breaks.Store(1)
				rc, err := content.Open(t.Context(), span)
				if err != nil {
					t.Fatal(err)
				}
				got := make([]byte, 1000)
				if _, err := io.ReadFull(rc, got); err != nil {
					t.Fatal(err)
				}
				c.move(t, m)
				rest, err := io.ReadAll(rc)
				if err = errors.Join(err, rc.Close()); err != nil {
					t.Fatal(err)
				}
				want, err := span.Resolve(int64(len(m.content)))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(append(got, rest...), m.content[want.Offset:want.Offset+want.Length]) {
					t.Errorf("%d bytes that differ", len(got)+len(rest))
				}
			})
		}
	}
}

// A record that was got before the move is opened after it.
func TestContentThatMovedBeforeItIsOpened(t *testing.T) {
	t.Parallel()
	m := newMoving(t)
	inline := m.get(t)
	m.toObject(t)
	object := m.get(t)
	read := func(c storage.Content) {
		t.Helper()
		rc, err := c.Open(t.Context(), storage.Range{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(rc)
		if err = errors.Join(err, rc.Close()); err != nil || !bytes.Equal(b, m.content) {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
	read(inline)
	m.toRow(t)
	read(object)
	read(inline)
}

func TestContentThatMovedAndIsGoneIsNotFound(t *testing.T) {
	t.Parallel()
	for name, object := range map[string]bool{"row": false, "object": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMoving(t)
			if object {
				m.toObject(t)
			}
			content := m.get(t)
			m.objects.breaks.Store(1)
			rc, err := content.Open(t.Context(), storage.Range{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(rc, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			if object {
				m.toRow(t)
			} else {
				m.toObject(t)
			}
			m.ack(t)
			if _, err := m.Sweep(t.Context(), -1, 10); err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, rc); !errors.Is(err, storage.ErrNotFound) || n >= 2*storage.MiB {
				t.Errorf("%d bytes, %v, want ErrNotFound", n, err)
			}
			if err := rc.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
