package bench

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// concurrency is how many clients work at the same time.
const concurrency = 16

var sizes = []struct {
	name string
	n    int
}{{"4KiB", 4 << 10}, {"1MiB", 1 << 20}, {"25MiB", 25 << 20}}

func BenchmarkUpload(b *testing.B) {
	s := start(b)
	web := webClient()
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			content := noise(b, size.n)
			body, contentType := form(b, content)
			inTurns(b, s, size.n,
				func(int64) error { _, err := s.upload(b, web, body, contentType); return err },
				func(i int64) error { return s.put(b, fmt.Sprintf("bare/%d", i), content) })
		})
	}
}

func BenchmarkFetch(b *testing.B) {
	s := start(b)
	web := webClient()
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			// A file a client, as in real life: a fetch stamps its row.
			ids, keys := s.stageBoth(b, web, size.n)
			inTurns(b, s, size.n,
				func(i int64) error { return s.fetch(b.Context(), web, ids[i%concurrency], size.n) },
				func(i int64) error { return s.get(b, keys[i%concurrency], size.n) })
		})
	}
}

// BenchmarkServeMemory reports the peak resident memory of the service with 16
// uploads of 25 MiB at the same time.
func BenchmarkServeMemory(b *testing.B) {
	s := start(b)
	web := webClient()
	body, contentType := form(b, noise(b, 25<<20))
	b.SetBytes(concurrency * 25 << 20)
	for b.Loop() {
		if _, err := together(concurrency, func(int64) error { _, err := s.upload(b, web, body, contentType); return err }); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		s.clear(b)
		b.StartTimer()
	}
	b.ReportMetric(float64(s.peakRSS(b))/1e6, "peak-RSS-MB")
}

// BenchmarkServeMemoryFetch reports the peak resident memory of the service while a
// file of 25 MiB is fetched through it by that many readers at the same time.
func BenchmarkServeMemoryFetch(b *testing.B) {
	const size = 25 << 20
	for _, readers := range []int{1, 16, 64, 200} {
		b.Run(fmt.Sprint(readers), func(b *testing.B) {
			s := start(b)
			web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: readers}}
			defer web.CloseIdleConnections()
			body, contentType := form(b, noise(b, size))
			id, err := s.upload(b, web, body, contentType)
			if err != nil {
				b.Fatal(err)
			}
			s.forgetPeak(b)
			b.SetBytes(int64(readers) * size)
			for b.Loop() {
				if _, err := withWorkers(readers, int64(readers), func(int64) error { return s.fetch(b.Context(), web, id, size) }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(s.peakRSS(b))/1e6, "peak-RSS-MB")
			s.clear(b)
		})
	}
}

// inTurns is alternate, after which all objects are removed.
func inTurns(b *testing.B, s *service, size int, ours, bare func(i int64) error) {
	b.Helper()
	alternate(b, size, ours, bare)
	s.clear(b)
}

// alternate measures ours and bare in alternating rounds and reports how many
// times the bare rate ours reaches.
func alternate(b *testing.B, size int, ours, bare func(i int64) error) {
	b.Helper()
	round := int64(concurrency)
	if size <= 4<<10 {
		round *= 16
	} else if size <= 1<<20 {
		round *= 4
	}
	var a, c time.Duration
	var rounds int64
	b.SetBytes(round * int64(size))
	measure := func() {
		took, err := together(round, ours)
		if err != nil {
			b.Fatal(err)
		}
		a += took
		took, err = together(round, bare)
		if err != nil {
			b.Fatal(err)
		}
		c += took
	}
	measure() // connections, buffers
	a, c = 0, 0
	for b.Loop() {
		measure()
		rounds++
	}
	mb := float64(rounds*round*int64(size)) / 1e6
	b.ReportMetric(mb/a.Seconds(), "ours-MB/s")
	b.ReportMetric(mb/c.Seconds(), "bare-MB/s")
	b.ReportMetric(c.Seconds()/a.Seconds(), "ratio")
}

// together runs n calls, concurrency of them at a time.
func together(n int64, f func(i int64) error) (time.Duration, error) {
	return withWorkers(concurrency, n, f)
}

// withWorkers runs n calls, that many of them at a time.
func withWorkers(workers int, n int64, f func(i int64) error) (time.Duration, error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	start := time.Now()
	for range workers {
		wg.Go(func() {
			for i := next.Add(1); i <= n; i = next.Add(1) {
				if err := f(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return 0, err
	default:
		return time.Since(start), nil
	}
}

func (s *service) upload(b *testing.B, web *http.Client, body []byte, contentType string) (id string, err error) {
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, s.url+"/workspaces/"+s.workspace+"/chat/uploads", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", contentType)
	resp, err := web.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("upload: %s %s, %w", resp.Status, text, err)
	}
	var reply struct{ Files []struct{ URI string } }
	if err := json.Unmarshal(text, &reply); err != nil {
		return "", err
	}
	uri := reply.Files[0].URI
	return uri[len(uri)-36:], nil
}

func (s *service) put(b *testing.B, key string, content []byte) error {
	_, err := s.client.PutObject(b.Context(), &s3.PutObjectInput{Bucket: &s.s3.Bucket, Key: &key, Body: bytes.NewReader(content)})
	return err
}

func drain(body io.ReadCloser, size, status int) error {
	defer func() { _ = body.Close() }()
	n, err := io.Copy(io.Discard, body)
	if err != nil || n != int64(size) || status != http.StatusOK {
		return fmt.Errorf("fetch: status %d, %d bytes of %d, %w", status, n, size, err)
	}
	return nil
}

func webClient() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: concurrency, DisableCompression: true}}
}

func form(b *testing.B, content []byte) (body []byte, contentType string) {
	b.Helper()
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	part, err := w.CreateFormFile("files", "bench.bin")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := part.Write(content); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return buf.Bytes(), w.FormDataContentType()
}

func noise(b *testing.B, n int) []byte {
	b.Helper()
	content := make([]byte, n)
	if _, err := rand.Read(content); err != nil {
		b.Fatal(err)
	}
	return content
}
