package doctor

import (
	"context"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
)

// presignTTL is longer than a check takes, and no longer than clocks forgive.
const presignTTL = time.Minute

func (d *Doctor) checkPresign(ctx context.Context) verdict {
	return d.exchange(ctx, d.inside, "presigned")
}

func (d *Doctor) checkPublicPresign(ctx context.Context) verdict {
	if d.cfg.Settings.S3PublicEndpoint == "" {
		return ok("S3_PUBLIC_ENDPOINT is unset: presigned URLs are those of S3_ENDPOINT")
	}
	return d.exchange(ctx, d.store, "presigned-public")
}

// exchange puts and gets by plain HTTP, as those do who are handed URLs.
func (d *Doctor) exchange(ctx context.Context, store *s3blob.Store, name string) verdict {
	done := "GET works; PUT is not tried, see " + nameChecksum
	if !d.noSHA256 {
		r, err := store.PresignPut(ctx, d.newKey(name), blob.PresignPutOptions{
			TTL: presignTTL, Size: int64(len(probeText)), SHA256: sha256.Sum256([]byte(probeText)), ContentType: "text/plain", IfNoneMatch: d.conditional,
		})
		if err == nil {
			_, _, err = d.send(ctx, r, probeText)
		}
		if err != nil {
			return presignFailed("PUT", r.URL, err)
		}
		done = "PUT and GET work"
	}
	want := blob.PresignGetOptions{
		TTL: presignTTL, ContentType: "application/x-probe", ContentDisposition: `attachment; filename="probe"`, CacheControl: "private, no-store",
	}
	r, err := store.PresignGet(ctx, d.dir+probeName, want)
	if err != nil {
		return presignFailed("GET", "", err)
	}
	header, body, err := d.send(ctx, r, "")
	switch {
	case err != nil:
		return presignFailed("GET", r.URL, err)
	case body != probeText:
		return fail("look at what is between here and the store, a cache or a filter", "GET answers %d other bytes than were put", len(body))
	case header.Get("Content-Type") != want.ContentType, header.Get("Content-Disposition") != want.ContentDisposition, header.Get("Cache-Control") != want.CacheControl:
		return warn("use a store, or a release of it, that knows response-content-type and its like; until then do not redirect browsers to it",
			"the store answers with other headers than the URL asks for")
	}
	return ok("%s by URLs of %s", done, host(r.URL))
}

// statusError is a refusal, with the store's code.
type statusError struct {
	status int
	code   string
}

func (e *statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", e.status, e.code))
}

// send sends a presigned request as it is.
func (d *Doctor) send(ctx context.Context, r blob.SignedRequest, content string) (http.Header, string, error) {
	var body io.Reader
	if content != "" {
		body = strings.NewReader(content)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, body)
	if err != nil {
		return nil, "", withoutURL(err)
	}
	for name, values := range r.Header {
		if name != "Content-Length" { // the client's own, and the same
			req.Header[name] = values
		}
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, "", withoutURL(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return nil, "", err
	}
	if resp.StatusCode/100 != 2 {
		var said struct {
			Code string `xml:"Code"`
		}
		_ = xml.Unmarshal(text, &said) // whoever answers may not speak S3
		return nil, "", &statusError{resp.StatusCode, said.Code}
	}
	return resp.Header, string(text), nil
}

// presignFailed says what refuses or cannot be reached.
func presignFailed(method, target string, err error) verdict {
	fix := "correct S3_ENDPOINT or S3_PUBLIC_ENDPOINT; where this host cannot reach the public one, run doctor where clients are"
	if refusal, ok := err.(*statusError); ok { //nolint:errorlint // send returns it as it is
		fix = "let what stands before the store pass on method, path, query and headers as they come"
		if refusal.code == "SignatureDoesNotMatch" {
			fix = "let what stands before the store pass on Host and path unchanged: they are signed"
		}
	}
	return fail(fix, "%s by a presigned URL of %s: %v", method, host(target), err)
}

// host is all of a presigned URL that may be shown.
func host(target string) string {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return "the store"
	}
	return u.Host
}
