package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/molecule-ai/pendinguploads/client/inbox"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// fileEvent is a file in --json, and in a message.
type fileEvent struct {
	Event    string `json:"event,omitempty"` // "file"
	ID       string `json:"id"`
	URI      string `json:"uri"` // as the service has it
	Name     string `json:"name"`
	Path     string `json:"path,omitempty"`      // absent: the file is not here
	LocalURI string `json:"local_uri,omitempty"` // the path as messages name it
	MIMEType string `json:"mimeType,omitempty"`
	Size     int64  `json:"size"` // bytes
	SHA256   string `json:"sha256,omitempty"`
	Error    string `json:"error,omitempty"` // why it was given up
}

func newFileEvent(f inbox.File) fileEvent {
	e := fileEvent{URI: f.URI, Name: f.Name, Path: f.Path, LocalURI: f.LocalURI, MIMEType: f.MIMEType, Size: f.Size}
	if f.ID != (storage.FileID{}) {
		e.ID = f.ID.String()
	}
	if f.Path != "" {
		e.SHA256 = f.SHA256.String()
	}
	if f.Err != nil {
		e.Error = oneLine(f.Err)
	}
	return e
}

// messageEvent is a message in --json, and for the command of --exec.
type messageEvent struct {
	Event     string        `json:"event"` // "message"
	ID        string        `json:"id"`    // of the feed's row
	CreatedAt string        `json:"created_at"`
	Method    string        `json:"method,omitempty"`
	SourceID  string        `json:"source_id,omitempty"`
	Text      string        `json:"text"`
	Files     []fileEvent   `json:"files"`
	Activity  wire.Activity `json:"activity"` // the row, with local URIs
}

func newMessageEvent(m inbox.Message) messageEvent {
	e := messageEvent{
		Event: "message", ID: m.Activity.ID, CreatedAt: m.Activity.CreatedAt, Method: deref(m.Activity.Method), SourceID: deref(m.Activity.SourceID),
		Text: m.Text, Files: []fileEvent{}, Activity: m.Activity,
	}
	for _, f := range m.Files {
		e.Files = append(e.Files, newFileEvent(f))
	}
	return e
}

// barFrom is the size of a file that is worth a bar.
const barFrom = 256 << 10

// receiverReport prints what an inbox does.
type receiverReport struct {
	con   console
	json  bool
	lines io.Writer // of files and messages
	bars  *progress

	mu    sync.Mutex
	shown map[storage.FileID]*bar
}

func newReceiverReport(con console, asJSON bool) *receiverReport {
	r := &receiverReport{con: con, json: asJSON, lines: con.out, bars: newProgress(con.err, isTerminal(con.err)), shown: map[storage.FileID]*bar{}}
	r.con.err = r.bars
	if isTerminal(con.out) && isTerminal(con.err) {
		// Both are the same screen: lines must not run into the bars.
		r.lines = r.bars
	}
	return r
}

// aside is where everything goes that is not a file or a message.
func (r *receiverReport) aside() io.Writer {
	if !r.bars.shown {
		return r.bars.w
	}
	return r.bars
}

func (r *receiverReport) progress(f inbox.File, done int64) {
	if f.Size < barFrom || !r.bars.shown {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.shown[f.ID]
	switch {
	case done < 0:
		b.end()
		delete(r.shown, f.ID)
		return
	case b == nil:
		b = r.bars.bar(f.Name, f.Size)
		r.shown[f.ID] = b
	}
	b.set(done)
}

func (r *receiverReport) file(f inbox.File) {
	r.progress(f, -1)
	e := newFileEvent(f)
	if r.json {
		e.Event = "file"
		r.print(e)
		return
	}
	if f.Err != nil {
		r.line("file", printable(f.Name), "given up: "+printable(e.Error))
		return
	}
	r.line("file", size(f.Size), printable(f.Path))
}

func (r *receiverReport) message(e messageEvent) {
	if r.json {
		r.print(e)
		return
	}
	parts := []string{"message", first(e.Activity.PeerName, e.SourceID, "user"), shorten(e.Text, 200)}
	for _, f := range e.Files {
		parts = append(parts, "["+first(f.Path, f.URI)+"]")
	}
	for i := range parts {
		parts[i] = printable(parts[i])
	}
	r.line(parts...)
}

// trouble says what is wrong, and when it is over.
func (r *receiverReport) trouble(err error) {
	if err == nil {
		r.con.warn("all is well again")
		return
	}
	r.con.warn("%s", printable(oneLine(err)))
}

func (r *receiverReport) line(parts ...string) {
	_, _ = fmt.Fprintf(r.lines, "%s  %s\n", time.Now().Format("2006-01-02 15:04:05"), strings.TrimRight(strings.Join(parts, "  "), " "))
}

func (r *receiverReport) print(event any) {
	e := json.NewEncoder(r.lines)
	e.SetEscapeHTML(false)
	_ = e.Encode(event)
}

// close takes the bars away.
func (r *receiverReport) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, b := range r.shown {
		b.end()
		delete(r.shown, id)
	}
}
