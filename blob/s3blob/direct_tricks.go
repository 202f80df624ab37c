package s3blob

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/molecule-ai/pendinguploads/blob"
)

// Headers by which MinIO makes something else of a put.
const (
	headerCopySource    = "X-Amz-Copy-Source"
	headerExtract       = "X-Amz-Meta-Snowball-Auto-Extract"
	headerExtractPrefix = "X-Amz-Meta-Minio-Snowball-Prefix"
	headerContentSHA256 = "X-Amz-Content-Sha256"
	headerTrailer       = "X-Amz-Trailer"
)

// unsignedChunks says that content comes in chunks and a signature of the rest in
// the Authorization header. Some MinIO then look for a signature there alone, and
// do without where there is none.
const (
	unsignedChunks = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	trailerCRC32   = "x-amz-checksum-crc32"
	trailerSHA256  = "x-amz-checksum-sha256"
)

// copying is the header that asks for a copy in place of what is sent.
func (p *trial) copying(source string) http.Header {
	return http.Header{headerCopySource: {"/" + p.store.bucket + "/" + (&url.URL{Path: source}).EscapedPath()}}
}

// inChunks is content in the form for which no signature of a URL is looked at,
// with the checksum that the trailer names. A part's has to be of the kind that
// its upload was begun with.
func inChunks(text, trailer string) (http.Header, []byte) {
	sum := encodeSHA256(sha256.Sum256([]byte(text)))
	if trailer == trailerCRC32 {
		sum = base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(text))))
	}
	return http.Header{
		headerContentSHA256: {unsignedChunks}, headerTrailer: {trailer}, "X-Amz-Decoded-Content-Length": {strconv.Itoa(len(text))},
	}, fmt.Appendf(nil, "%x\r\n%s\r\n0\r\n%s:%s\r\n\r\n", len(text), text, trailer, sum)
}

// copies reports whether the sender of a put can have the store copy another
// object instead.
func (p *trial) copies(ctx context.Context, source string, once bool) (bool, error) {
	plain := trialPut{key: p.key("target"), content: []byte(targetText), once: once}
	evil := plain
	evil.header = p.copying(source)
	put, err := p.put(ctx, evil)
	switch {
	case err != nil:
		return false, err
	case put.refused():
		return false, p.mustPut(ctx, plain) // it was the header that it refused
	case !put.ok():
		return false, put.errorf("put with a source to copy")
	}
	got, err := p.read(ctx, plain.key)
	switch {
	case err != nil:
		return false, err
	case got == sourceText:
		return true, nil
	case got != targetText:
		return false, fmt.Errorf("%w: put with a source to copy: neither the one content nor the other", errTrial)
	}
	return false, nil
}

// extracts reports whether the sender of a put can have the store unpack it, and
// so write under keys that he chooses.
func (p *trial) extracts(ctx context.Context, once bool) (bool, error) {
	for i, way := range []struct{ entry, prefix string }{
		{p.key("unpacked"), ""},
		{"unpacked-below", strings.TrimSuffix(p.dir, "/")},
	} {
		archive, err := archiveOf(way.entry, targetText)
		if err != nil {
			return false, err
		}
		plain := trialPut{key: p.key(fmt.Sprint("archive-", i)), content: archive, once: once}
		evil := plain
		evil.header = http.Header{headerExtract: {"true"}}
		entry := way.entry
		if way.prefix != "" {
			entry = p.key(way.entry)
			evil.header.Set(headerExtractPrefix, way.prefix)
		}
		put, err := p.put(ctx, evil)
		if err != nil {
			return false, err
		}
		switch _, err := p.store.Head(ctx, entry); {
		case err == nil:
			return true, nil
		case !errors.Is(err, blob.ErrNotFound):
			return false, err
		}
		switch {
		case put.refused():
			if err := p.mustPut(ctx, plain); err != nil {
				return false, err
			}
		case !put.ok():
			return false, put.errorf("put that asks to be unpacked")
		}
	}
	return false, nil
}

// forges reports whether the sender of a put can write under another key, because
// the store does not look at the signature.
func (p *trial) forges(ctx context.Context) (bool, error) {
	signed, other := p.key("signed"), p.key("forged")
	header, chunks := inChunks(targetText, trailerCRC32)
	put, err := p.put(ctx, trialPut{key: signed, moved: other, content: []byte(targetText), sent: chunks, header: header})
	if err != nil {
		return false, err
	}
	switch _, err := p.store.Head(ctx, other); {
	case err == nil:
		return true, nil
	case !errors.Is(err, blob.ErrNotFound):
		return false, err
	case !put.refused():
		return false, put.errorf("put under another key than was signed")
	}
	return false, nil
}

func archiveOf(name, content string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), Format: tar.FormatPAX}); err != nil {
		return nil, fmt.Errorf("make an archive: %w", err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		return nil, fmt.Errorf("make an archive: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("make an archive: %w", err)
	}
	return b.Bytes(), nil
}
