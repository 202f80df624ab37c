package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// pollInterval, pollTimeout, firstWindow and fetchers are those of the
	// released Python poller.
	pollInterval = 5 * time.Second
	pollTimeout  = 10 * time.Second
	firstWindow  = 600 // seconds
	fetchers     = 4
	// patience bounds the wait for the message, which is there before the
	// first poll.
	patience = time.Minute
)

// poller is a workspace that polls, in the way of the released Python poller.
type poller struct {
	api
	workspace string
	folder    string // where files are written
	cursor    string // id of the last row consumed

	received []received

	mu    sync.Mutex
	local map[string]string // URI of a file → local URI
}

// entry is a row of the feed.
type entry struct {
	ID          string          `json:"id"`
	Method      *string         `json:"method"`
	RequestBody json.RawMessage `json:"request_body"`
}

// received is a file that arrived.
type received struct {
	name string
	size int64
	sum  [sha256.Size]byte
}

// path is a URL path below the staged file.
func (p *poller) path(file, action string) string {
	return "/workspaces/" + p.workspace + "/pending-uploads/" + file + "/" + action
}

// untilMessage polls until a row that is not an upload arrives and returns it,
// rewritten. Uploads before it are fetched by then.
func (p *poller) untilMessage(ctx context.Context) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		message, err := p.round(ctx)
		if err != nil || message != nil {
			return message, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("poll: the message does not arrive: %w", ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}

// round is one poll. A batch of uploads is drained before the row after it.
func (p *poller) round(ctx context.Context) (message json.RawMessage, err error) {
	rows, err := p.feed(ctx)
	if err != nil {
		return nil, err
	}
	var batch []entry
	for _, e := range rows {
		p.cursor = e.ID
		if e.Method != nil && *e.Method == "chat_upload_receive" {
			batch = append(batch, e)
			continue
		}
		if err := p.drain(ctx, batch); err != nil {
			return nil, err
		}
		batch = nil
		message = p.rewrite(e.RequestBody)
	}
	return message, p.drain(ctx, batch)
}

// feed reads the rows after the cursor, or those of the first window, oldest
// first.
func (p *poller) feed(ctx context.Context) ([]entry, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	query := url.Values{"type": {"a2a_receive"}}
	if p.cursor != "" {
		query.Set("since_id", p.cursor)
	} else {
		query.Set("since_secs", fmt.Sprint(firstWindow))
	}
	var rows []entry
	if err := p.call(ctx, http.MethodGet, "/workspaces/"+p.workspace+"/activity?"+query.Encode(), "", nil, &rows); err != nil {
		return nil, err
	}
	if p.cursor == "" {
		slices.Reverse(rows)
	}
	return rows, nil
}

// drain fetches and acks a batch of uploads, a few at a time.
func (p *poller) drain(ctx context.Context, batch []entry) error {
	files := make([]received, len(batch))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fetchers)
	for i, e := range batch {
		group.Go(func() (err error) { files[i], err = p.take(ctx, e); return err })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	p.received = append(p.received, files...)
	return nil
}

// take fetches one file, writes it, remembers where, and acks it.
func (p *poller) take(ctx context.Context, e entry) (received, error) {
	var manifest struct {
		FileID string `json:"file_id"`
		Name   string `json:"name"`
		Size   int64  `json:"size"`
		URI    string `json:"uri"`
	}
	if err := json.Unmarshal(e.RequestBody, &manifest); err != nil {
		return received{}, fmt.Errorf("manifest of row %s: %w", e.ID, err)
	}
	response, err := p.send(ctx, http.MethodGet, p.path(manifest.FileID, "content"), "", nil)
	if err != nil {
		return received{}, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return received{}, fmt.Errorf("fetch %s: status %d", manifest.FileID, response.StatusCode)
	}
	target := filepath.Join(p.folder, fmt.Sprintf("%x-%s", random16(), filepath.Base(manifest.Name)))
	got, err := write(target, response.Body)
	if err != nil {
		return received{}, fmt.Errorf("fetch %s: %w", manifest.FileID, err)
	}
	got.name = manifest.Name
	if got.size != manifest.Size {
		return received{}, fmt.Errorf("fetch %s: got %d bytes, want %d", manifest.FileID, got.size, manifest.Size)
	}
	p.mu.Lock()
	if p.local == nil {
		p.local = map[string]string{}
	}
	p.local[manifest.URI] = "workspace:" + target
	p.mu.Unlock()
	var reply struct {
		Acked bool `json:"acked"`
	}
	if err := p.call(ctx, http.MethodPost, p.path(manifest.FileID, "ack"), "", nil, &reply); err != nil {
		return received{}, err
	}
	if !reply.Acked {
		return received{}, fmt.Errorf("ack %s: the reply does not say so", manifest.FileID)
	}
	return got, nil
}

func random16() []byte {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return b
}

// write writes a new file; one that is there, or a link, is not touched.
func write(path string, content io.Reader) (got received, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return got, err
	}
	sum := sha256.New()
	got.size, err = io.Copy(io.MultiWriter(f, sum), content)
	if err := errors.Join(err, f.Close()); err != nil {
		return got, errors.Join(err, os.Remove(path))
	}
	copy(got.sum[:], sum.Sum(nil))
	return got, nil
}

// rewrite puts local paths in place of the URIs of files that were fetched.
func (p *poller) rewrite(message json.RawMessage) json.RawMessage {
	text := string(message)
	for uri, local := range p.local {
		text = strings.ReplaceAll(text, `"`+uri+`"`, `"`+local+`"`)
	}
	return json.RawMessage(text)
}

// allRewritten reports an error unless the message names every local file and
// no staged one.
func allRewritten(message json.RawMessage, local map[string]string) error {
	if strings.Contains(string(message), "platform-pending:") {
		return errors.New("message: a file's URI was not rewritten")
	}
	for _, path := range slices.Sorted(maps.Values(local)) {
		if !strings.Contains(string(message), path) {
			return fmt.Errorf("message: it does not name %s", path)
		}
	}
	return nil
}

// compare reports the first difference between what was sent and what arrived,
// the order included.
func compare(sent []file, got []received) error {
	if len(sent) != len(got) {
		return fmt.Errorf("fetch: got %d files, want %d", len(got), len(sent))
	}
	for i, f := range sent {
		if got[i].name != f.name || got[i].sum != f.sum {
			return fmt.Errorf("fetch: file %d is %s with SHA-256 %x, want %s with %x", i, got[i].name, got[i].sum, f.name, f.sum)
		}
	}
	return nil
}
