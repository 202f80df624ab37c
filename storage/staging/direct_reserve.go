package staging

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/storage"
)

// reserving makes one reservation.
type reserving struct {
	store   *Store
	objects directObjects
	ws      storage.WorkspaceID
	support supported
	ttl     time.Duration
}

// all makes the requests of all files or, after a failure, leaves no upload
// behind. Only files in parts have the object store asked, FilesInFlight at a
// time.
func (r reserving) all(ctx context.Context, files []storage.DirectFile) ([]storage.DirectPut, error) {
	puts := make([]storage.DirectPut, len(files))
	for i, f := range files {
		id, err := storage.NewFileID()
		if err != nil {
			return nil, err
		}
		f.FileID = id
		if f.Size <= storage.DirectPartsFrom || !r.support.parts {
			f.Parts = nil
		}
		puts[i].DirectFile = f
	}
	err := r.store.each(len(puts), func(i int) error {
		if puts[i].Parts != nil {
			return r.parts(ctx, &puts[i])
		}
		return r.whole(ctx, &puts[i])
	})
	if err != nil {
		r.drop(ctx, puts)
		return nil, err
	}
	return puts, nil
}

// whole makes the one request that writes a file.
func (r reserving) whole(ctx context.Context, put *storage.DirectPut) error {
	encoding := ""
	if !r.support.conditional {
		// The same bytes can be sent again after the commit: not as if encoded.
		encoding = identity
	}
	signed, err := r.objects.PresignPut(ctx, r.store.keys.key(r.ws, put.FileID), blob.PresignPutOptions{
		TTL: r.ttl, Size: put.Size, SHA256: put.SHA256, ContentType: put.MIMEType, ContentEncoding: encoding, IfNoneMatch: r.support.conditional,
	})
	if err != nil {
		return err
	}
	put.DirectRequest, put.ExpiresAt = requestOf(signed), signed.Expires
	return nil
}

// parts begins the upload of a file, and makes the requests of its parts.
func (r reserving) parts(ctx context.Context, put *storage.DirectPut) error {
	key := r.store.keys.key(r.ws, put.FileID)
	parts := *put.Parts // the caller's
	put.Parts = &parts
	parts.IfNoneMatch = r.support.conditional
	var err error
	if parts.UploadID, err = r.objects.CreateParts(ctx, key, blob.PutOptions{ContentType: put.MIMEType}); err != nil {
		return err
	}
	for i, part := range partsOf(put.DirectFile) {
		signed, err := r.objects.PresignPart(ctx, key, parts.UploadID, blob.PresignPartOptions{TTL: r.ttl, Number: i + 1, Part: part})
		if err != nil {
			return err
		}
		if put.PartRequests = append(put.PartRequests, requestOf(signed)); i == 0 || signed.Expires.Before(put.ExpiresAt) {
			put.ExpiresAt = signed.Expires
		}
	}
	return nil
}

// drop aborts the uploads of a reservation that failed. What it cannot abort is
// left to SweepOrphans.
func (r reserving) drop(ctx context.Context, puts []storage.DirectPut) {
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTime)
	defer cancel()
	for _, p := range puts {
		if p.Parts == nil || p.Parts.UploadID == "" {
			continue
		}
		u := blob.Unfinished{Key: r.store.keys.key(r.ws, p.FileID), UploadID: p.Parts.UploadID}
		if err := r.objects.AbortUnfinished(clean, u); err != nil {
			r.store.log.LogAttrs(clean, slog.LevelWarn, "upload of a failed reservation may remain", slog.String("key", u.Key), slog.Any("error", err))
		}
	}
}

func requestOf(signed blob.SignedRequest) storage.DirectRequest {
	return storage.DirectRequest{Method: signed.Method, URL: signed.URL, Header: signed.Header}
}

// partsOf are the parts of a file as the object store knows them.
func partsOf(f storage.DirectFile) []blob.Part {
	parts := make([]blob.Part, len(f.Parts.SHA256))
	for i, d := range f.Parts.SHA256 {
		_, size := f.Parts.Span(i, f.Size)
		parts[i] = blob.Part{Size: size, SHA256: d}
	}
	return parts
}

// each calls f with 0 to n-1, FilesInFlight at a time, and returns the error of
// the lowest.
func (s *Store) each(n int, f func(i int) error) error {
	errs := make([]error, n)
	var calls sync.WaitGroup
	slots := make(chan struct{}, s.filesInFlight)
	for i := range n {
		slots <- struct{}{}
		calls.Go(func() {
			defer func() { <-slots }()
			errs[i] = f(i)
		})
	}
	calls.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
