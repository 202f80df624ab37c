package handlers

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net/http"

	"github.com/molecule-ai/pendinguploads/storage"
)

// errDigest: stored content does not have the digest that its row says.
var errDigest = fmt.Errorf("%w: it has another SHA-256 than its row", storage.ErrCorrupt)

// verified reads a span of content. Where the span is all of it and the digest
// is known, the last bytes are handed on only once the digest of everything is
// right: a body that is wrong is never whole. A wrong one ends in errDigest.
// Of a part nothing can be said; whoever puts parts together has the ETag.
func verified(body io.ReadCloser, content storage.Content, span storage.Range) io.ReadCloser {
	if content.SHA256.IsZero() || span.Length != content.Size {
		return body
	}
	return &verifyingReader{ReadCloser: body, hash: sha256.New(), want: content.SHA256, left: content.Size}
}

type verifyingReader struct {
	io.ReadCloser
	hash hash.Hash
	want storage.Digest
	left int64 // bytes until the end
}

func (v *verifyingReader) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	if n == 0 {
		return n, err
	}
	v.hash.Write(p[:n])
	v.left -= int64(n)
	if v.left > 0 {
		return n, err
	}
	if got := storage.Digest(v.hash.Sum(nil)); got != v.want {
		return 0, errDigest
	}
	return n, err
}

// CorruptMarker remembers content that was found to be wrong.
type CorruptMarker interface {
	// MarkCorrupt records that the stored content of an upload is not what was
	// staged. A row that is gone is no error.
	MarkCorrupt(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) error
}

// noteCorrupt puts content on record that is not what was staged, or is not there:
// in the log, in the metrics and, as well as can be, in the row.
func (s *Server) noteCorrupt(r *http.Request, rec storage.Record, cause error) {
	s.metrics.contentMismatches.Inc()
	s.log.LogAttrs(r.Context(), slog.LevelError, "stored content is not what was staged",
		append(recordAttrs(rec), slog.String("placement", string(rec.Content.Placement)), slog.Any("error", cause))...)
	if s.cfg.Corrupt == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), stampTimeout)
	defer cancel()
	if err := s.cfg.Corrupt.MarkCorrupt(ctx, rec.WorkspaceID, rec.FileID); err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "corrupt_at not stamped", append(recordAttrs(rec), slog.Any("error", err))...)
	}
}
