package inbox

import (
	"cmp"
	"slices"
	"time"

	"github.com/molecule-ai/pendinguploads/storage"
)

const (
	// keptFiles is how many finished files stay known with their names, for
	// rewriting (contract 7.1).
	keptFiles = 1024
	// keptIDs is how many older files, and how many messages, are recognised when
	// the feed brings them again.
	keptIDs = 4096
)

// line is one line of the journal. What its fields say is applied in their order.
type line struct {
	Version   int                  `json:"v,omitempty"` // first line alone
	Workspace *storage.WorkspaceID `json:"workspace,omitempty"`

	Reset   bool             `json:"reset,omitempty"` // the feed does not know the cursor
	Mark    *mark            `json:"mark,omitempty"`
	File    *record          `json:"file,omitempty"` // what is now known of it
	Row     string           `json:"row,omitempty"`  // the cursor is this row
	Seq     int64            `json:"seq,omitempty"`  // its number
	At      time.Time        `json:"at,omitzero"`    // its time
	Handled bool             `json:"handled,omitempty"`
	Done    []storage.FileID `json:"done,omitempty"` // files of which no more is known
	Past    []string         `json:"past,omitempty"` // rows that were handled
}

// state is what the lines of a journal say together.
type state struct {
	cursor string
	seq    int64 // of the cursor's row; 0: unknown
	mark   mark

	files map[storage.FileID]*known
	uris  map[string]storage.FileID
	uses  int64

	done recent[storage.FileID]
	past recent[string]
}

// known is a record with the time of its last use.
type known struct {
	record
	used int64
}

func newState() state {
	return state{
		files: map[storage.FileID]*known{}, uris: map[string]storage.FileID{},
		done: newRecent[storage.FileID](keptIDs), past: newRecent[string](keptIDs),
	}
}

func (s *state) apply(l line) {
	if l.Reset {
		// The cursor stays: should the process die before the feed has another one, the
		// next is told again that it is gone, and asks for as much.
		s.seq = 0
	}
	if l.Mark != nil {
		s.mark = *l.Mark
	}
	if l.File != nil {
		s.set(*l.File)
	}
	if l.Row != "" {
		s.cursor, s.seq = l.Row, l.Seq
		s.mark.pass(l.Seq, l.At)
		if l.Handled {
			s.past.add(l.Row)
		}
	}
	for _, id := range l.Done {
		s.done.add(id)
	}
	for _, id := range l.Past {
		s.past.add(id)
	}
}

func (s *state) set(r record) {
	s.uses++
	s.files[r.ID] = &known{r, s.uses}
	s.uris[r.URI] = r.ID
	if !r.Stage.finished() || len(s.files) <= keptFiles {
		return
	}
	var oldest *known
	finished := 0
	for _, f := range s.files {
		if !f.Stage.finished() {
			continue
		}
		finished++
		if oldest == nil || f.used < oldest.used {
			oldest = f
		}
	}
	if finished > keptFiles {
		delete(s.files, oldest.ID)
		delete(s.uris, oldest.URI)
		s.done.add(oldest.ID)
	}
}

// byURI finds a file and counts that as a use.
func (s *state) byURI(uri string) (record, bool) {
	id, ok := s.uris[uri]
	if !ok {
		return record{}, false
	}
	f := s.files[id]
	s.uses++
	f.used = s.uses
	return f.record, true
}

// unfinished is the ids of files with something left to do, in the feed's order;
// those of a feed without numbers in the order they were seen in.
func (s *state) unfinished() []storage.FileID {
	var open []record
	for _, f := range s.files {
		if !f.Stage.finished() {
			open = append(open, f.record)
		}
	}
	slices.SortFunc(open, func(a, b record) int { return cmp.Or(cmp.Compare(a.Seq, b.Seq), a.Seen.Compare(b.Seen)) })
	ids := make([]storage.FileID, len(open))
	for i, r := range open {
		ids[i] = r.ID
	}
	return ids
}

// consumed is the highest number up to which every row is done: its message
// handled, its file in the folder or given up.
func (s *state) consumed() int64 {
	seq := s.seq
	for _, f := range s.files {
		if !f.Stage.here() && !f.Stage.finished() {
			seq = min(seq, f.Seq-1)
		}
	}
	return seq
}

// lines is the state as a journal, without its first line.
func (s *state) lines() []line {
	all := []line{}
	for batch := range slices.Chunk(s.done.order, 64) {
		all = append(all, line{Done: batch})
	}
	for batch := range slices.Chunk(s.past.order, 64) {
		all = append(all, line{Past: batch})
	}
	files := make([]*known, 0, len(s.files))
	for _, f := range s.files {
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b *known) int { return cmp.Compare(a.used, b.used) })
	for _, f := range files {
		all = append(all, line{File: &f.record})
	}
	if s.mark.Seq > 0 {
		all = append(all, line{Mark: &s.mark})
	}
	if s.cursor != "" {
		all = append(all, line{Row: s.cursor, Seq: s.seq})
	}
	return all
}

// recent is a set of the last values added.
type recent[T comparable] struct {
	most  int
	set   map[T]struct{}
	order []T // oldest first
}

func newRecent[T comparable](most int) recent[T] {
	return recent[T]{most: most, set: map[T]struct{}{}}
}

func (r *recent[T]) add(v T) {
	if r.has(v) {
		return
	}
	r.set[v] = struct{}{}
	r.order = append(r.order, v)
	if len(r.order) > r.most {
		delete(r.set, r.order[0])
		r.order = r.order[1:]
	}
}

func (r *recent[T]) has(v T) bool {
	_, ok := r.set[v]
	return ok
}
