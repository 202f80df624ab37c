package storagetest

import (
	"bytes"
	"io"
	"testing"

	"github.com/molecule-ai/pendinguploads/storage"
)

var memoryTests = []subtest{
	{"beyond the memory budget callers wait, then are told to come again", func(t *testing.T, open Open) {
		limits := storage.Limits{MaxFileBytes: 6 * storage.MiB, MaxRequestBytes: 7 * storage.MiB}
		h := open(t, Options{Limits: limits, OneUpload: true})
		ws := newWorkspace(t)
		want := noise(300)
		inside, proceed := make(chan struct{}), make(chan struct{})
		slow := io.MultiReader(bytes.NewReader(want), readerFunc(func([]byte) (int, error) {
			close(inside)
			<-proceed
			return 0, io.EOF
		}))
		first := make(chan error, 1)
		go func() {
			_, err := h.Storage.Put(t.Context(), ws, storage.Upload{Filename: "slow", Body: slow})
			first <- err
		}()
		<-inside
		other := newWorkspace(t)
		_, err := h.Storage.Put(t.Context(), other, file("b", want))
		wantErr(t, "put beyond the budget", err, storage.ErrBusy)
		if n := h.Rows(t, other); n != 0 {
			t.Errorf("%d rows of the refused file", n)
		}
		close(proceed)
		if err := <-first; err != nil {
			t.Errorf("the upload that held the budget: %v", err)
		}
		if _, err := h.Storage.Put(t.Context(), other, file("b", want)); err != nil {
			t.Errorf("the same put afterwards: %v", err)
		}
	}},
	{"a file far larger than the memory for uploads streams through it", func(t *testing.T, open Open) {
		h := open(t, Options{OneUpload: true})
		if h.Objects == nil {
			return
		}
		ws := newWorkspace(t)
		want := noise(24 * storage.MiB)
		r, err := h.Storage.PutBatch(t.Context(), ws, storage.Batch{Uploads: storage.Files(file("a", want)), MaxBytes: storage.MiB})
		if err != nil {
			t.Fatal(err)
		}
		wantContent(t, r[0], want)
	}},
}
