package staging

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/storage"
)

// cacheControl of what a URL answers: no cache keeps what an ack ends.
const cacheControl = "private, no-store"

// signTries is how often a URL is signed that would outlive its row because the
// credentials took their time. They are there the next time.
const signTries = 3

var errSlowSignature = errors.New("credentials take too long")

// attachURL gives the record's content its URLs, where the object store makes
// such things.
func (s *Store) attachURL(r *storage.Record) {
	presigner, ok := s.objects.(blob.Presigner)
	if !ok {
		return
	}
	key, end := r.Content.ObjectKey, r.ExpiresAt
	r.Content.Signer = func(ctx context.Context, opts storage.URLOptions) (storage.SignedURL, error) {
		for range signTries {
			ttl := min(opts.TTL, end.Sub(s.now()))
			if ttl < time.Second && ttl < opts.TTL {
				return storage.SignedURL{}, storage.ErrNotFound
			}
			signed, err := presigner.PresignGet(ctx, key, blob.PresignGetOptions{
				TTL: ttl, ContentType: opts.ContentType, ContentDisposition: opts.ContentDisposition, CacheControl: cacheControl,
			})
			if errors.Is(err, blob.ErrUnsupported) {
				return storage.SignedURL{}, fmt.Errorf("%w: %w", storage.ErrNoURL, err)
			}
			if err != nil {
				return storage.SignedURL{}, fmt.Errorf("sign a URL of object %s: %w", key, err)
			}
			// A life counts from the signature, in whole seconds.
			if latest := s.now().Truncate(time.Second).Add(ttl.Truncate(time.Second)); latest.After(end) {
				continue
			}
			return storage.SignedURL{URL: signed.URL, ExpiresAt: signed.Expires, Header: signed.Header}, nil
		}
		return storage.SignedURL{}, fmt.Errorf("sign a URL of object %s: %w", key, errSlowSignature)
	}
}
