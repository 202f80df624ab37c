package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/storage"
)

var batchTests = []subtest{
	{"a batch is stored whole and in order", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		var uploads []storage.Upload
		var want [][]byte
		for i := range storage.MaxFilesPerBatch {
			content := noise(1 + i*700)
			if i == 20 {
				content = noise(7 * storage.MiB)
			}
			want = append(want, content)
			uploads = append(uploads, file(fmt.Sprintf("f%02d", i), content))
		}
		records, err := h.Storage.PutBatch(t.Context(), ws, storage.Batch{Uploads: storage.Files(uploads...)})
		if err != nil || len(records) != len(want) {
			t.Fatalf("PutBatch: %d records, %v", len(records), err)
		}
		for i, r := range records {
			if r.Filename != fmt.Sprintf("f%02d", i) {
				t.Errorf("record %d is %s", i, r.Filename)
			}
			got, err := h.Storage.Get(t.Context(), ws, r.FileID)
			if err != nil {
				t.Fatalf("Get %d: %v", i, err)
			}
			wantContent(t, got, want[i])
		}
	}},
	{"each body is read to its end before the next file is asked for", func(t *testing.T, open Open) {
		h := open(t, Options{})
		stream := strings.NewReader("one" + "two" + "three")
		seq := func(yield func(storage.Upload, error) bool) {
			for i, n := range []int64{3, 3, 5} {
				body := &io.LimitedReader{R: stream, N: n}
				if !yield(storage.Upload{Filename: fmt.Sprint(i), Body: body}, nil) {
					return
				}
				if body.N != 0 {
					t.Errorf("file %d: %d bytes are unread", i, body.N)
				}
			}
		}
		records, err := h.Storage.PutBatch(t.Context(), newWorkspace(t), storage.Batch{Uploads: seq, MaxBytes: 11})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"one", "two", "three"} {
			wantContent(t, records[i], []byte(want))
		}
	}},
	{"an empty batch is no work and no error", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		records, err := h.Storage.PutBatch(t.Context(), ws, storage.Batch{Uploads: storage.Files()})
		if err != nil || len(records) != 0 {
			t.Errorf("%d records, %v", len(records), err)
		}
		wantNothing(t, h, ws)
	}},
	{"a batch is all or nothing", func(t *testing.T, open Open) {
		h := open(t, Options{Limits: storage.Limits{MaxFileBytes: storage.MiB, MaxRequestBytes: 50 * storage.MiB}})
		broken := errors.New("connection reset")
		for name, c := range map[string]struct {
			bad  storage.Upload
			want error
		}{
			"empty":     {file("bad", nil), storage.ErrEmpty},
			"too large": {file("bad", noise(storage.MiB+1)), storage.ErrTooLarge},
			"no name":   {file("", noise(1)), storage.ErrInvalidFilename},
			"broken":    {storage.Upload{Filename: "bad", Body: io.MultiReader(bytes.NewReader(noise(5000)), errReader{broken})}, broken},
		} {
			ws := newWorkspace(t)
			_, err := h.Storage.PutBatch(t.Context(), ws, storage.Batch{Uploads: storage.Files(
				file("good", noise(1000)), file("good too", noise(storage.MiB)), c.bad, file("never asked for", noise(10)))})
			wantErr(t, name, err, c.want)
			var fe *storage.FileError
			if !errors.As(err, &fe) || fe.Index != 2 || fe.Filename != c.bad.Filename {
				t.Errorf("%s: the error does not name the file: %v", name, err)
			}
			wantNothing(t, h, ws)
		}
	}},
	{"an error of the sequence is returned as it is and leaves nothing", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		malformed := errors.New("malformed multipart body")
		_, err := h.Storage.PutBatch(t.Context(), ws, storage.Batch{Uploads: func(yield func(storage.Upload, error) bool) {
			_ = yield(file("good", noise(6*storage.MiB)), nil) && yield(file("good", noise(10)), nil) && yield(storage.Upload{}, malformed)
		}})
		wantErr(t, "malformed sequence", err, malformed)
		wantNothing(t, h, ws)
	}},
	{"a panic in the sequence or in a body leaves nothing and reaches the caller", func(t *testing.T, open Open) {
		h := open(t, Options{})
		for name, last := range map[string]func(yield func(storage.Upload, error) bool){
			"sequence": func(func(storage.Upload, error) bool) { panic("boom") },
			"body": func(yield func(storage.Upload, error) bool) {
				yield(storage.Upload{Filename: "a", Body: io.MultiReader(bytes.NewReader(noise(7*storage.MiB)),
					readerFunc(func([]byte) (int, error) { panic("boom") }))}, nil)
			},
		} {
			ws := newWorkspace(t)
			func() {
				defer func() {
					if p := recover(); p != "boom" {
						t.Errorf("%s: recovered %v", name, p)
					}
				}()
				_, err := h.Storage.PutBatch(t.Context(), ws, storage.Batch{Uploads: func(yield func(storage.Upload, error) bool) {
					if yield(file("good", noise(2000)), nil) {
						last(yield)
					}
				}})
				t.Errorf("%s: PutBatch returned %v", name, err)
			}()
			wantNothing(t, h, ws)
		}
	}},
	{"more than 64 files are refused", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		var uploads []storage.Upload
		for range storage.MaxFilesPerBatch + 1 {
			uploads = append(uploads, file("a", noise(3)))
		}
		_, err := h.Storage.PutBatch(t.Context(), ws, storage.Batch{Uploads: storage.Files(uploads...)})
		wantErr(t, "65 files", err, storage.ErrTooManyFiles)
		wantNothing(t, h, ws)
	}},
	{"a failed upload that is retried leaves no duplicate", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		for try := range 3 {
			second := file("b", noise(9))
			if try < 2 {
				second = file("b", nil)
			}
			_, err := h.Storage.PutBatch(t.Context(), ws, storage.Batch{Uploads: storage.Files(file("a", noise(5)), second)})
			if (err == nil) != (try == 2) {
				t.Fatalf("try %d: %v", try, err)
			}
		}
		if n := h.Rows(t, ws); n != 2 {
			t.Errorf("%d rows, want 2", n)
		}
	}},
}
