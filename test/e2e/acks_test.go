package e2e

import (
	"errors"
	"io"
	"net/http"
	"regexp"
	"sync"
	"testing"
)

// acks is a transport that counts the acks of each file: those that were sent, and
// those whose answer came back whole.
type acks struct {
	http.Transport

	mu             sync.Mutex
	sent, answered map[string]int // by file id
}

func newAcks() *acks {
	return &acks{Transport: http.Transport{DisableCompression: true}, sent: map[string]int{}, answered: map[string]int{}}
}

var ackPath = regexp.MustCompile(`/pending-uploads/([0-9a-f-]{36})/ack$`)

// RoundTrip sends a request.
func (a *acks) RoundTrip(r *http.Request) (*http.Response, error) {
	ack := ackPath.FindStringSubmatch(r.URL.Path)
	if ack == nil {
		return a.Transport.RoundTrip(r)
	}
	a.count(a.sent, ack[1])
	response, err := a.Transport.RoundTrip(r)
	if err == nil && response.StatusCode == http.StatusOK {
		response.Body = &wholeBody{ReadCloser: response.Body, whole: func() { a.count(a.answered, ack[1]) }}
	}
	return response, err
}

func (a *acks) count(in map[string]int, file string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	in[file]++
}

// served matches what the service logs of an ack that it answers with 200.
var served = regexp.MustCompile(`msg="upload acknowledged".* file_id=([0-9a-f-]{36})`)

// check wants each of n files to have one ack whose answer came back, and the
// service to have answered no more acks than were sent. It returns how many were
// sent and answered.
func (a *acks) check(t *testing.T, n int, log string) (sent, reached int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	byService := map[string]int{}
	for _, m := range served.FindAllStringSubmatch(log, -1) {
		byService[m[1]]++
		reached++
	}
	if len(a.answered) != n || len(byService) != n {
		t.Errorf("%d files have an answered ack, the service answered acks of %d, want %d", len(a.answered), len(byService), n)
	}
	for file, times := range a.sent {
		if a.answered[file] != 1 {
			t.Errorf("%s: %d answers to acks arrived, want 1", file, a.answered[file])
		}
		if byService[file] < 1 || byService[file] > times {
			t.Errorf("%s: the service answered %d acks of %d", file, byService[file], times)
		}
		sent += times
	}
	return sent, reached
}

// wholeBody tells when a body was read to its end.
type wholeBody struct {
	io.ReadCloser
	once  sync.Once
	whole func()
}

func (b *wholeBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.once.Do(b.whole)
	}
	return n, err
}
