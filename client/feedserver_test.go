package client_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// feedServer stands in for the service: a feed whose rows have the ids r1, r2, …
// and, where it knows them, long polls and streams.
type feedServer struct {
	streams, waits bool
	seed           bool // knows no before_ts
	sameMoment     bool // rows of one transaction share their time

	mu       sync.Mutex
	rows     int
	gone     map[string]bool // cursors it does not know
	changed  chan struct{}   // closed at each new row
	requests []string        // how it was asked
	streamed func(w http.ResponseWriter, r *http.Request)
}

func newFeedServer(streams, waits bool) *feedServer {
	return &feedServer{streams: streams, waits: waits, gone: map[string]bool{}, changed: make(chan struct{})}
}

func (s *feedServer) add(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows += n
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *feedServer) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, what)
}

func (s *feedServer) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *feedServer) row(n int) wire.Activity {
	a := row(n)
	if s.sameMoment {
		a.CreatedAt = "2026-01-01T00:00:00Z"
	}
	return a
}

func row(n int) wire.Activity {
	return wire.Activity{ID: "r" + strconv.Itoa(n), Seq: int64(n), CreatedAt: fmt.Sprintf("2026-01-01T00:00:00.%06dZ", n)}
}

// after are the rows behind a cursor, oldest first, and what to wait for.
func (s *feedServer) after(cursor string) (rows []wire.Activity, known bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone[cursor] {
		return nil, false, nil
	}
	first, _ := strconv.Atoi(strings.TrimPrefix(cursor, "r"))
	for n := first + 1; n <= s.rows; n++ {
		rows = append(rows, s.row(n))
	}
	return rows, true, s.changed
}

func (s *feedServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/activity/stream"):
		s.note("stream")
		switch {
		case s.streamed != nil:
			s.streamed(w, r)
		case s.streams:
			s.stream(w, r, 1<<30)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"error":"not found"}`)
		}
	case strings.HasSuffix(r.URL.Path, "/activity"):
		s.page(w, r)
	default:
		w.WriteHeader(http.StatusTeapot)
	}
}

func (s *feedServer) page(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	cursor := q.Get("since_id")
	what := "poll"
	if q.Get("wait") != "" {
		what = "longpoll"
	}
	s.note(what)
	for {
		rows, known, changed := s.after(cursor)
		if !known {
			w.WriteHeader(http.StatusGone)
			_, _ = io.WriteString(w, `{"error":"since_id cursor not found"}`)
			return
		}
		if cursor == "" {
			slices.Reverse(rows)
			if before := q.Get("before_ts"); before != "" && !s.seed {
				rows = slices.DeleteFunc(rows, func(a wire.Activity) bool { return a.CreatedAt >= before })
			}
		}
		if len(rows) == 0 && s.waits && what == "longpoll" {
			select {
			case <-changed:
				continue
			case <-r.Context().Done():
				return
			}
		}
		if rows == nil {
			rows = []wire.Activity{}
		}
		_ = json.NewEncoder(w).Encode(rows[:min(len(rows), 3)]) // small pages
		return
	}
}

// stream sends rows and ends after n of them.
func (s *feedServer) stream(w http.ResponseWriter, r *http.Request, n int) {
	cursor := r.Header.Get("Last-Event-ID")
	if _, known, _ := s.after(cursor); !known {
		w.WriteHeader(http.StatusGone)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	_, _ = io.WriteString(w, "retry: 2000\n\n: ping\n\n")
	for {
		rows, _, changed := s.after(cursor)
		for _, a := range rows {
			if n--; n < 0 {
				return
			}
			data, _ := json.Marshal(a)
			_, _ = fmt.Fprintf(w, "id: %s\nevent: activity\ndata: %s\n\n", a.ID, data)
			cursor = a.ID
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}
