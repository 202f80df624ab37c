package s3blob_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// isPart recognises the request that sends a part.
func isPart(r *http.Request) bool {
	return r.Method == http.MethodPut && r.URL.Query().Has("partNumber")
}

// Presigned parts are not given away by stores that do not bind them, and the
// rest of what these stores do is known all the same.
func TestStoresThatBindNoParts(t *testing.T) {
	t.Parallel()
	server := devstack.MinIOUser(t)
	for name, c := range map[string]struct {
		wrap func(http.Handler) http.Handler
		why  string
	}{
		"compares no content":   {takesAnyPart(t, server), "the content of a presigned part is not compared"},
		"copies":                {copiesParts(t, server), "a copy of another object, by X-Amz-Copy-Source"},
		"does not look":         {ignoresCopies, ""},
		"knows no uploads":      {refuses(func(r *http.Request) bool { return r.Method == http.MethodPost }, http.StatusNotImplemented, "NotImplemented"), "the store does not know how"},
		"lists no parts":        {refuses(listsParts, http.StatusForbidden, "AccessDenied"), "s3:ListMultipartUploadParts): status 403 AccessDenied"},
		"refuses parts":         {refuses(isPart, http.StatusForbidden, "AccessDenied"), "a presigned part is refused: status 403 AccessDenied"},
		"completes nothing":     {refuses(completes, http.StatusNotImplemented, "NotImplemented"), "no object can be made of parts"},
		"no multipart checksum": {refuses(begins, http.StatusBadRequest, "InvalidRequest"), "no multipart upload can be begun: status 400 InvalidRequest"},
	} {
		cfg := config(t, server)
		cfg.Endpoint, cfg.MaxRetries = front(t, server, c.wrap).URL, -1
		store := open(t, cfg)
		got, err := store.DirectSupport(t.Context(), trialDir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !got.Safe() || got.SafeParts() != (c.why == "") || got.Parts != (c.why == "") || !strings.Contains(got.NoParts, c.why) {
			t.Errorf("%s: %+v, want the reason %q", name, got, c.why)
		}
		empty(t, store)
	}
}

func listsParts(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Query().Has("uploadId")
}

func completes(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

// A store's answer begins before it has made the object. One that ends without
// saying that it has is no object, whatever its status.
func TestAnswersThatEndEarlyCompleteNothing(t *testing.T) {
	t.Parallel()
	server := devstack.MinIO(t)
	const begun = `<?xml version="1.0" encoding="UTF-8"?>` + "\n   "
	for name, answer := range map[string]string{
		"nothing": "", "spaces": begun, "an error": begun + `<Error><Code>InternalError</Code></Error>`,
	} {
		cfg := config(t, server)
		cfg.MaxRetries = -1
		cfg.Endpoint = front(t, server, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !completes(r) {
					next.ServeHTTP(w, r)
					return
				}
				_, _ = io.WriteString(w, answer)
			})
		}).URL
		store := open(t, cfg)
		if err := store.Put(t.Context(), "a", body(11*mib), blob.PutOptions{}); err == nil {
			t.Errorf("%s: put without an object", name)
		}
		id, err := store.CreateParts(t.Context(), "b", blob.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte("hello"))
		if _, err := client(server).UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: &server.Bucket, Key: aws.String("b"), UploadId: &id, PartNumber: aws.Int32(1), Body: strings.NewReader("hello"),
			ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
		}); err != nil {
			t.Fatal(err)
		}
		if err := store.CompleteParts(t.Context(), "b", id, []blob.Part{{Size: 5, SHA256: sum}}, blob.CompleteOptions{}); err == nil {
			t.Errorf("%s: completed without an object", name)
		}
		if err := store.AbortUnfinished(t.Context(), blob.Unfinished{Key: "b", UploadID: id}); err != nil {
			t.Error(err)
		}
		empty(t, store)
	}
}

// ends: completes an upload or aborts it.
func ends(r *http.Request) bool {
	return completes(r) || r.Method == http.MethodDelete && r.URL.Query().Has("uploadId")
}

func begins(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploads") }

// TestTrialsOfPartsWithoutAnAnswerTellNothing: nobody knows what is safe then.
func TestTrialsOfPartsWithoutAnAnswerTellNothing(t *testing.T) {
	t.Parallel()
	server := devstack.MinIOUser(t)
	for name, c := range map[string]struct {
		to      func(*http.Request) bool
		status  int
		code    string
		remains bool
	}{
		"busy":         {isPart, http.StatusServiceUnavailable, "SlowDown", false},
		"busy listing": {listsParts, http.StatusServiceUnavailable, "SlowDown", false},
		"ends nothing": {ends, http.StatusForbidden, "AccessDenied", true},
	} {
		cfg := config(t, server)
		cfg.Endpoint, cfg.MaxRetries = front(t, server, refuses(c.to, c.status, c.code)).URL, -1
		got, err := open(t, cfg).DirectSupport(t.Context(), trialDir)
		if err == nil || got.Safe() || strings.Contains(err.Error(), "X-Amz-Signature") {
			t.Errorf("%s: %+v, %v, want an error", name, got, err)
		}
		if remains := errors.Is(err, blob.ErrProbeRemains); remains != c.remains {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// takesAnyPart puts the digest of what a part holds in place of the signed one.
func takesAnyPart(t *testing.T, server devstack.S3) func(http.Handler) http.Handler {
	return sendsParts(t, server, func(r *http.Request, content []byte) []byte { return content })
}

// copiesParts sends the source in place of the part.
func copiesParts(t *testing.T, server devstack.S3) func(http.Handler) http.Handler {
	return sendsParts(t, server, func(r *http.Request, content []byte) []byte {
		if r.Header.Get("X-Amz-Copy-Source") == "" {
			return nil
		}
		return []byte("the source")
	})
}

// sendsParts has parts whose signature is not looked at: what content returns is
// sent as the part; nil leaves it to the server.
func sendsParts(t *testing.T, server devstack.S3, content func(*http.Request, []byte) []byte) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !isPart(r) || r.Header.Get("X-Amz-Trailer") != "" {
				next.ServeHTTP(w, r)
				return
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			sent := content(r, body)
			if sent == nil {
				next.ServeHTTP(w, r)
				return
			}
			sum := sha256.Sum256(sent)
			if _, err := client(server).UploadPart(r.Context(), &s3.UploadPartInput{
				Bucket: &server.Bucket, Key: aws.String(strings.TrimPrefix(r.URL.Path, "/"+server.Bucket+"/")),
				UploadId: aws.String(r.URL.Query().Get("uploadId")), PartNumber: aws.Int32(1), Body: strings.NewReader(string(sent)),
				ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
			}); err != nil {
				t.Error(err)
			}
			w.WriteHeader(http.StatusOK)
		})
	}
}
