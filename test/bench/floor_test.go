package bench

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// relayVariable makes the test's binary a relay.
const relayVariable = "BENCH_RELAY"

// BenchmarkFetchFloor says how much of the distance between a proxied fetch and a
// bare one is left to us: beside both, in turns, it measures a process that does
// nothing but pass bytes on ("relay-ratio"), and the same one with the SHA-256 that
// a fetch is held to ("hashing-ratio"). All are times the bare rate.
func BenchmarkFetchFloor(b *testing.B) {
	s := start(b)
	web := webClient()
	relay := startRelay(b)
	presign := s3.NewPresignClient(s.client, s3.WithPresignExpires(time.Hour))
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			ids, keys := s.stageBoth(b, web, size.n)
			var targets [concurrency]string
			for i, key := range keys {
				signed, err := presign.PresignGetObject(b.Context(), &s3.GetObjectInput{Bucket: &s.s3.Bucket, Key: &key})
				if err != nil {
					b.Fatal(err)
				}
				targets[i] = url.QueryEscape(signed.URL)
			}
			through := func(query string) func(int64) error {
				return func(i int64) error { return get(b.Context(), web, relay+query+targets[i%concurrency], size.n) }
			}
			besides(b, max(concurrency, int64(4<<20/size.n)), []way{
				{"ratio", func(i int64) error { return s.fetch(b.Context(), web, ids[i%concurrency], size.n) }},
				{"relay-ratio", through("/?url=")},
				{"hashing-ratio", through("/?hash=1&url=")},
				{"bare", func(i int64) error { return s.get(b, keys[i%concurrency], size.n) }},
			})
			s.clear(b)
		})
	}
}

// handLookUp is what has to be known of an upload before its object can be asked
// for.
const handLookUp = `SELECT object_key, sha256 FROM pending_uploads WHERE file_id = $1 AND acked_at IS NULL AND expires_at > now()`

// BenchmarkEmbedGetFloor says the same of Store.Get in S3 placement: beside it and
// the bare client, a statement by hand before the bare client's get ("asking-ratio"),
// and that with the SHA-256 of the content behind it ("hashing-ratio").
func BenchmarkEmbedGetFloor(b *testing.B) {
	e := embed(b, "pgx")
	for _, size := range sizes[:2] {
		b.Run(size.name, func(b *testing.B) {
			content := noise(b, size.n)
			id := e.stage(b, e.placed, content)
			if err := e.put(b, "bare/get", content); err != nil {
				b.Fatal(err)
			}
			ask := func(hash bool) error {
				var key string
				var digest []byte
				if err := e.db.QueryRowContext(b.Context(), handLookUp, id).Scan(&key, &digest); err != nil {
					return err
				}
				got, err := e.getBytes(b, key, size.n)
				if err == nil && hash && [sha256.Size]byte(digest) != sha256.Sum256(got) {
					err = errors.New("SHA-256 differs")
				}
				return err
			}
			besides(b, concurrency*int64(max(4, 16*4096/size.n)), []way{
				{"ratio", func(int64) error { return embeddedGet(b, e.placed, id, size.n) }},
				{"asking-ratio", func(int64) error { return ask(false) }},
				{"hashing-ratio", func(int64) error { return ask(true) }},
				{"bare", func(int64) error { _, err := e.getBytes(b, "bare/get", size.n); return err }},
			})
			e.clear(b)
		})
	}
}

// way is one of several to do the same.
type way struct {
	name string
	call func(i int64) error
}

// besides measures the ways in turns, round calls each, and reports the rate of each
// as times that of the last one.
func besides(b *testing.B, round int64, ways []way) {
	b.Helper()
	spent := make([]time.Duration, len(ways))
	measure := func() {
		for n, way := range ways {
			took, err := together(round, way.call)
			if err != nil {
				b.Fatal(err)
			}
			spent[n] += took
		}
	}
	measure() // connections, buffers
	clear(spent)
	for b.Loop() {
		measure()
	}
	bare := spent[len(ways)-1]
	for n, way := range ways[:len(ways)-1] {
		b.ReportMetric(bare.Seconds()/spent[n].Seconds(), way.name)
	}
}

func get(ctx context.Context, web *http.Client, url string, size int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	return drain(resp.Body, size, resp.StatusCode)
}

// startRelay runs this binary as a relay until the benchmark ends.
func startRelay(b *testing.B) (base string) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), relayVariable+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatalf("the relay says no address: %v", err)
	}
	return "http://" + strings.TrimSpace(addr)
}

// relay serves GET /?url=URL with what URL answers, hashed on the way with hash=1.
// Connections and buffers are like those of the service.
func relay() error {
	upstream := &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: concurrency, DisableCompression: true, ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10,
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // until the process is killed
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, r.FormValue("url"), nil)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		resp, err := upstream.Do(req)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer func() { _ = resp.Body.Close() }()
		w.Header().Set("Content-Length", resp.Header.Get("Content-Length"))
		w.WriteHeader(resp.StatusCode)
		in := io.Reader(resp.Body)
		var sum hash.Hash
		if r.FormValue("hash") != "" {
			sum = sha256.New()
			in = io.TeeReader(in, sum)
		}
		// Plain interfaces, so that both ways take the same loop.
		if _, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{in}, make([]byte, 256<<10)); err != nil {
			panic(http.ErrAbortHandler)
		}
		if sum != nil {
			sum.Sum(nil)
		}
	})}
	return server.Serve(l)
}
