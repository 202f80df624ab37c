package s3blob_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
)

// TestStoreThatNeverSaysContinueIsServed: from 2 MiB on the SDK asks whether it
// may go on (Expect: 100-continue). Some proxies swallow the question, and the
// body comes all the same.
func TestStoreThatNeverSaysContinueIsServed(t *testing.T) {
	t.Parallel()
	var listen net.ListenConfig
	listener, err := listen.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	type request struct {
		expect string
		n      int64
		err    error
	}
	got := make(chan request, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			got <- request{err: err}
			return
		}
		defer conn.Close()
		// Unlike net/http's server this only reads.
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			got <- request{err: err}
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			_, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: \"e\"\r\nConnection: close\r\n\r\n")
		}
		got <- request{r.Header.Get("Expect"), n, err}
	}()

	const size = 3 * mib
	store := open(t, s3blob.Config{
		Bucket: "b", Endpoint: "http://" + listener.Addr().String(), PathStyle: true, MaxRetries: -1,
		Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""), Pool: pool(t, blob.PoolConfig{}),
	})
	if err := store.Put(t.Context(), "a", body(size), blob.PutOptions{}); err != nil {
		t.Error(err)
	}
	if r := <-got; r != (request{"100-continue", size, nil}) {
		t.Errorf("the store got %+v", r)
	}
}
