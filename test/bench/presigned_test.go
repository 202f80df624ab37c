package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// BenchmarkFetchPresigned asks the service for a URL and reads the content from
// the store.
func BenchmarkFetchPresigned(b *testing.B) {
	s := start(b)
	web := webClient()
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			ids, keys := s.stageBoth(b, web, size.n)
			inTurns(b, s, size.n,
				func(i int64) error {
					url, err := s.contentURL(b.Context(), web, ids[i%concurrency])
					if err != nil {
						return err
					}
					req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
					if err != nil {
						return err
					}
					resp, err := web.Do(req)
					if err != nil {
						return err
					}
					return drain(resp.Body, size.n, resp.StatusCode)
				},
				func(i int64) error { return s.get(b, keys[i%concurrency], size.n) })
		})
	}
}

// BenchmarkURLBesideProxy compares answers with a URL with proxied answers, for
// 4 KiB: "ratio" is how many times the rate of the proxied ones the URLs reach.
func BenchmarkURLBesideProxy(b *testing.B) {
	s := start(b)
	web := webClient()
	const size = 4 << 10
	ids, _ := s.stageBoth(b, web, size)
	inTurns(b, s, size,
		func(i int64) error { _, err := s.contentURL(b.Context(), web, ids[i%concurrency]); return err },
		func(i int64) error { return s.fetch(b.Context(), web, ids[i%concurrency], size) })
}

// BenchmarkUploadDirect reserves, puts into the store, and commits.
func BenchmarkUploadDirect(b *testing.B) {
	s := start(b)
	web := webClient()
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			content := noise(b, size.n)
			sum := sha256.Sum256(content)
			reservation, err := json.Marshal(map[string]any{"files": []map[string]any{{
				"name": "bench.bin", "size": size.n, "mimeType": "application/octet-stream", "sha256": hex.EncodeToString(sum[:]),
			}}})
			if err != nil {
				b.Fatal(err)
			}
			inTurns(b, s, size.n,
				func(int64) error { return s.uploadDirect(b.Context(), web, reservation, content) },
				func(i int64) error { return s.put(b, fmt.Sprintf("bare/%d", i), content) })
		})
	}
}

// stageBoth stages a file for each client, in the service and bare.
func (s *service) stageBoth(b *testing.B, web *http.Client, size int) (ids, keys [concurrency]string) {
	b.Helper()
	content := noise(b, size)
	body, contentType := form(b, content)
	for i := range concurrency {
		var err error
		if ids[i], err = s.upload(b, web, body, contentType); err != nil {
			b.Fatal(err)
		}
		keys[i] = fmt.Sprint("bare/", i)
		if err := s.put(b, keys[i], content); err != nil {
			b.Fatal(err)
		}
	}
	return ids, keys
}

func (s *service) get(b *testing.B, key string, size int) error {
	out, err := s.client.GetObject(b.Context(), &s3.GetObjectInput{Bucket: &s.s3.Bucket, Key: &key})
	if err != nil {
		return err
	}
	return drain(out.Body, size, http.StatusOK)
}

// call makes a request of the workspace's to the service.
func (s *service) call(ctx context.Context, web *http.Client, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.url+"/workspaces/"+s.workspace+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return web.Do(req)
}

func (s *service) callJSON(ctx context.Context, web *http.Client, method, path string, body []byte, out any) error {
	resp, err := s.call(ctx, web, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s %s, %w", method, path, resp.Status, text, err)
	}
	return json.Unmarshal(text, out)
}

func (s *service) fetch(ctx context.Context, web *http.Client, id string, size int) error {
	resp, err := s.call(ctx, web, http.MethodGet, "/pending-uploads/"+id+"/content", nil)
	if err != nil {
		return err
	}
	return drain(resp.Body, size, resp.StatusCode)
}

func (s *service) contentURL(ctx context.Context, web *http.Client, id string) (string, error) {
	var reply wire.ContentURL
	if err := s.callJSON(ctx, web, http.MethodGet, "/pending-uploads/"+id+"/content?delivery=url", nil, &reply); err != nil {
		return "", err
	}
	return reply.URL, nil
}

func (s *service) uploadDirect(ctx context.Context, web *http.Client, reservation, content []byte) error {
	var reserved wire.DirectReply
	if err := s.callJSON(ctx, web, http.MethodPost, "/chat/uploads/direct", reservation, &reserved); err != nil {
		return err
	}
	file := reserved.Files[0]
	req, err := http.NewRequestWithContext(ctx, file.Method, file.URL, bytes.NewReader(content))
	if err != nil {
		return err
	}
	for name, value := range file.Headers {
		req.Header.Set(name, value)
	}
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("put: %s %s, %w", resp.Status, text, err)
	}
	commit, err := json.Marshal(map[string]string{"commit_token": reserved.CommitToken})
	if err != nil {
		return err
	}
	var staged wire.UploadReply
	return s.callJSON(ctx, web, http.MethodPost, "/chat/uploads/direct/commit", commit, &staged)
}
