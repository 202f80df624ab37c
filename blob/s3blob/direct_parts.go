package s3blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/molecule-ai/pendinguploads/blob"
)

// trialPart is one presigned part of the trial's upload, with what its holder
// makes of it.
type trialPart struct {
	number int         // that it is sent as; 1 is signed
	sum    string      // the text whose length and SHA-256 are signed
	sent   []byte      // what is sent in its place
	header http.Header // added, and not signed
}

// parts says why presigned parts cannot be given away; "" if they can. An upload
// of one part goes the whole way, past what its holder could try.
func (p *trial) parts(ctx context.Context, source string, once bool) (why string, err error) {
	key := p.key("parts")
	id, err := p.store.CreateParts(ctx, key, blob.PutOptions{})
	if err != nil {
		return p.lacking(err, "no multipart upload can be begun")
	}
	u := blob.Unfinished{Key: key, UploadID: id}
	p.begun = append(p.begun, u)
	for _, try := range []func(context.Context, blob.Unfinished) (string, error){
		p.bindsParts,
		p.forgesParts,
		func(ctx context.Context, u blob.Unfinished) (string, error) { return p.copiesParts(ctx, u, source) },
	} {
		if why, err := try(ctx, u); why != "" || err != nil {
			return why, err
		}
	}
	part := blob.Part{Size: int64(len(targetText)), SHA256: sha256.Sum256([]byte(targetText))}
	if err := p.store.CompleteParts(ctx, key, id, []blob.Part{part}, blob.CompleteOptions{IfNoneMatch: once}); err != nil {
		return p.lacking(err, "no object can be made of parts")
	}
	p.begun = nil
	got, err := p.read(ctx, key)
	if err == nil && got != targetText {
		err = fmt.Errorf("%w: an object of one part has other content", errTrial)
	}
	return "", err
}

// lacking is the reason that a refusal gives; other errors leave it open.
func (p *trial) lacking(err error, what string) (string, error) {
	status := statusCode(err)
	switch {
	case errors.Is(err, blob.ErrUnsupported):
		return what + ": the store does not know how", nil
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests:
		return fmt.Sprintf("%s: status %d %s", what, status, errorCode(err)), nil
	}
	return "", err
}

// bindsParts sends other content than was signed.
func (p *trial) bindsParts(ctx context.Context, u blob.Unfinished) (string, error) {
	put, err := p.sendPart(ctx, u, trialPart{number: 1, sum: targetText, sent: []byte(sourceText)})
	switch {
	case err != nil || put.refused():
		return "", err
	case put.ok():
		return "the content of a presigned part is not compared with its SHA-256", nil
	}
	return "", put.errorf("part of other content than was signed")
}

// forgesParts sends a part that was never signed, in the form for which MinIO
// looks at no signature of a URL.
func (p *trial) forgesParts(ctx context.Context, u blob.Unfinished) (string, error) {
	const other = 2
	header, chunks := inChunks(targetText, trailerSHA256)
	put, err := p.sendPart(ctx, u, trialPart{number: other, sum: targetText, sent: chunks, header: header})
	if err != nil {
		return "", err
	}
	sent, err := p.store.listParts(ctx, u.Key, u.UploadID)
	if err != nil {
		return p.lacking(err, "parts cannot be listed (s3:ListMultipartUploadParts)")
	}
	if _, ok := sent[other]; ok {
		return "a presigned part can be sent as another one, by " + headerContentSHA256, nil
	}
	if !put.refused() {
		return "", put.errorf("part of another number than was signed")
	}
	return "", nil
}

// copiesParts sends the part with a source to copy, and leaves the right one
// behind. A store that copied has the source's bytes in its place, which have
// another ETag than those that were sent.
func (p *trial) copiesParts(ctx context.Context, u blob.Unfinished, source string) (string, error) {
	plain := trialPart{number: 1, sum: targetText, sent: []byte(targetText)}
	evil := plain
	evil.header = p.copying(source)
	first, err := p.sendPart(ctx, u, evil)
	switch {
	case err != nil:
		return "", err
	case !first.ok() && !first.refused():
		return "", first.errorf("part with a source to copy")
	}
	tag := func() (string, error) {
		sent, err := p.store.listParts(ctx, u.Key, u.UploadID)
		return aws.ToString(sent[1].ETag), err
	}
	before, err := tag()
	if err != nil {
		return "", err
	}
	second, err := p.sendPart(ctx, u, plain)
	switch {
	case err != nil:
		return "", err
	case !second.ok():
		return fmt.Sprintf("a presigned part is refused: status %d %s", second.status, second.code), nil
	}
	if after, err := tag(); err != nil || !first.ok() || before == after {
		return "", err
	}
	return "a presigned part can be made a copy of another object, by " + headerCopySource, nil
}

func (p *trial) sendPart(ctx context.Context, u blob.Unfinished, t trialPart) (trialAnswer, error) {
	signed, err := p.store.presignPart(ctx, p.store.trial.signer, u.Key, u.UploadID, blob.PresignPartOptions{
		TTL: probeLife, Number: 1, Part: blob.Part{Size: int64(len(t.sum)), SHA256: sha256.Sum256([]byte(t.sum))},
	})
	if err != nil {
		return trialAnswer{}, err
	}
	return p.send(ctx, u.Key, signed, t.sent, func(r *http.Request) {
		if t.number != 1 {
			query := r.URL.Query()
			query.Set("partNumber", strconv.Itoa(t.number))
			r.URL.RawQuery = query.Encode()
		}
		if t.header.Get(headerTrailer) != "" {
			r.Header.Del(trailerSHA256) // it comes behind the content
		}
		for name, values := range t.header {
			r.Header[name] = values
		}
	})
}
