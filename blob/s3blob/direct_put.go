package s3blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
)

// probeLife is how long the presigned requests of a trial live.
const probeLife = time.Minute

// errTrial is an answer that leaves open what the store does.
var errTrial = errors.New("unexpected answer")

// trialPut is one presigned put, with what its holder makes of it.
type trialPut struct {
	key     string
	content []byte
	sum     *[sha256.Size]byte // signed in place of the content's
	once    bool
	header  http.Header // added, and not signed
	moved   string      // the key that it is sent to in place of the signed one
	sent    []byte      // what is sent in place of the content
}

// trialAnswer is the store's answer.
type trialAnswer struct {
	status int
	code   string
}

func (a trialAnswer) ok() bool { return a.status >= 200 && a.status < 300 }

// unknown: the store does not know such a request.
func (a trialAnswer) unknown() bool {
	return a.status == http.StatusNotImplemented || a.code == codeNotImplemented
}

// refused: for what the request is, not for what happens to be the matter.
func (a trialAnswer) refused() bool {
	switch a.status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusUnprocessableEntity:
		return true
	}
	return a.unknown()
}

func (a trialAnswer) errorf(what string) error {
	return fmt.Errorf("%w: %s: status %d %s", errTrial, what, a.status, a.code)
}

func (p *trial) mustPut(ctx context.Context, t trialPut) error {
	put, err := p.put(ctx, t)
	if err == nil && !put.ok() {
		err = put.errorf("put")
	}
	return err
}

func (p *trial) put(ctx context.Context, t trialPut) (trialAnswer, error) {
	sum := sha256.Sum256(t.content)
	if t.sum != nil {
		sum = *t.sum
	}
	signed, err := p.store.presignPut(ctx, p.store.trial.signer, t.key, blob.PresignPutOptions{
		TTL: probeLife, Size: int64(len(t.content)), SHA256: sum, IfNoneMatch: t.once,
	})
	if err != nil {
		return trialAnswer{}, err
	}
	if t.sent == nil {
		t.sent = t.content
	}
	return p.send(ctx, t.key, signed, t.sent, func(r *http.Request) {
		if t.moved != "" {
			// Both keys end in a word of their own.
			r.URL.Path, r.URL.RawPath = strings.TrimSuffix(r.URL.Path, path.Base(t.key))+path.Base(t.moved), ""
		}
		for name, values := range t.header {
			r.Header[name] = values
		}
	})
}

// send sends a presigned request after change had its way with it.
func (p *trial) send(ctx context.Context, key string, signed blob.SignedRequest, content []byte, change func(*http.Request)) (trialAnswer, error) {
	req, err := http.NewRequestWithContext(ctx, signed.Method, signed.URL, bytes.NewReader(content))
	if err != nil {
		return trialAnswer{}, fmt.Errorf("put %s: %w", key, withoutURL(err))
	}
	for name, values := range signed.Header {
		req.Header[name] = values
	}
	change(req)
	resp, err := p.store.trial.http.Do(req)
	if err != nil {
		return trialAnswer{}, fmt.Errorf("put %s: %w", key, withoutURL(err))
	}
	defer func() { _ = resp.Body.Close() }()
	answer := trialAnswer{status: resp.StatusCode}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return answer, fmt.Errorf("put %s: %w", key, err)
	}
	var said struct{ Code string }
	if xml.Unmarshal(body, &said) == nil {
		answer.code = said.Code
	}
	return answer, nil
}
