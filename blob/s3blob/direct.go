package s3blob

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/blob"
)

var _ blob.DirectProber = (*Store)(nil)

// Contents of a trial's objects. Those of the same length differ.
const (
	sourceText = "the source"
	targetText = "the target"
)

// DirectSupport implements blob.DirectProber. It sends presigned puts and parts as
// their holder would, with headers of his own: one that makes the put a copy of
// another object, one that has an archive unpacked into the bucket, and one that
// makes the store forget about the signature. The requests go to Endpoint,
// whatever the public one is.
func (s *Store) DirectSupport(ctx context.Context, dir string) (blob.DirectSupport, error) {
	if s.trial.http == nil {
		return blob.DirectSupport{}, fmt.Errorf("try presigned puts to bucket %q: %w", s.bucket, blob.ErrUnsupported)
	}
	p := &trial{store: s, dir: dir + "/" + strings.ToLower(rand.Text()) + "/"}
	found, err := p.run(ctx)
	if removed := p.remove(ctx); removed != nil {
		err = errors.Join(removed, err)
	}
	if err != nil {
		return blob.DirectSupport{}, fmt.Errorf("try presigned puts to bucket %q: %w", s.bucket, err)
	}
	return found, nil
}

// trialWay is how a trial's requests are made and sent. The zero value: not at
// all.
type trialWay struct {
	signer signer
	http   s3.HTTPClient
}

func newTrialWay(client *s3.Client) trialWay {
	return trialWay{signer: newSigner(client, ""), http: client.Options().HTTPClient}
}

// trial is one run of DirectSupport.
type trial struct {
	store *Store
	dir   string // ends in a slash
	keys  []string
	begun []blob.Unfinished // uploads that are not completed
}

// key makes one that run's end removes.
func (p *trial) key(name string) string {
	p.keys = append(p.keys, p.dir+name)
	return p.dir + name
}

func (p *trial) run(ctx context.Context) (found blob.DirectSupport, err error) {
	source := p.key("source")
	if found.Conditional, err = p.conditional(ctx, source); err != nil {
		return found, err
	}
	if found.Checksum, err = p.checksum(ctx, source); err != nil {
		return found, err
	}
	copied, err := p.copies(ctx, source, found.Conditional)
	if err != nil {
		return found, err
	}
	if copied {
		found.Taken = append(found.Taken, headerCopySource)
	}
	extracted, err := p.extracts(ctx, found.Conditional)
	if err != nil {
		return found, err
	}
	if extracted {
		found.Taken = append(found.Taken, headerExtract)
	}
	forged, err := p.forges(ctx)
	if err != nil {
		return found, err
	}
	if forged {
		found.Taken = append(found.Taken, headerContentSHA256)
	}
	if found.NoParts, err = p.parts(ctx, source, found.Conditional); err != nil {
		return found, err
	}
	found.Parts = found.NoParts == ""
	return found, nil
}

// conditional leaves the source behind.
func (p *trial) conditional(ctx context.Context, source string) (bool, error) {
	first := trialPut{key: source, content: []byte(sourceText), once: true}
	put, err := p.put(ctx, first)
	switch {
	case err != nil:
		return false, err
	case put.unknown():
		first.once = false
		return false, p.mustPut(ctx, first)
	case !put.ok():
		return false, put.errorf("put on a condition")
	}
	put, err = p.put(ctx, first)
	switch {
	case err != nil:
		return false, err
	case put.status == http.StatusPreconditionFailed:
		return true, nil
	case put.ok():
		return false, nil
	}
	return false, put.errorf("put again on a condition")
}

// checksum reports whether the source has its SHA-256, and nothing else can.
func (p *trial) checksum(ctx context.Context, source string) (bool, error) {
	told, err := p.tells(ctx, source, sha256.Sum256([]byte(sourceText)))
	if err != nil {
		return false, err
	}
	claimed := sha256.Sum256([]byte(targetText))
	wrong := p.key("wrong")
	put, err := p.put(ctx, trialPut{key: wrong, content: []byte(sourceText), sum: &claimed})
	switch {
	case err != nil:
		return false, err
	case put.refused():
		return told, nil
	case !put.ok():
		return false, put.errorf("put of other content than was signed")
	}
	lied, err := p.tells(ctx, wrong, claimed)
	if err == nil && lied {
		err = fmt.Errorf("%w: the store tells a SHA-256 that it did not compare", errTrial)
	}
	return false, err
}

func (p *trial) tells(ctx context.Context, key string, want [sha256.Size]byte) (bool, error) {
	info, err := p.store.Head(ctx, key)
	return err == nil && info.SHA256 != nil && *info.SHA256 == want, err
}

func (p *trial) read(ctx context.Context, key string) (string, error) {
	r, err := p.store.Open(ctx, key, 0, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(io.LimitReader(r, int64(len(sourceText)+1)))
	if err != nil {
		return "", fmt.Errorf("read object %s: %w", key, err)
	}
	return string(b), nil
}

// remove removes what was made, one at a time: that is what every store knows.
func (p *trial) remove(ctx context.Context) error {
	clean, cancel := cleaning(ctx)
	defer cancel()
	var errs []error
	for _, u := range p.begun {
		switch err := p.store.AbortUnfinished(clean, u); {
		case err == nil:
		case statusCode(err) >= 400 && statusCode(err) < 500:
			errs = append(errs, fmt.Errorf("%w: %w", blob.ErrProbeRemains, err))
		default:
			errs = append(errs, err)
		}
	}
	for _, key := range p.keys {
		_, err := p.store.api.DeleteObject(clean, &s3.DeleteObjectInput{Bucket: aws.String(p.store.bucket), Key: aws.String(key)})
		switch {
		case err == nil || isNoSuchKey(err):
		case statusCode(err) >= 400 && statusCode(err) < 500:
			errs = append(errs, fmt.Errorf("object %s: %w: %w", key, blob.ErrProbeRemains, translate(err)))
		default:
			errs = append(errs, fmt.Errorf("remove object %s: %w", key, translate(err)))
		}
	}
	return errors.Join(errs...)
}
