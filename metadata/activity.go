package metadata

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/molecule-ai/pendinguploads/storage"
)

const (
	// ActivityReceive is the activity type that pollers ask for: messages, and
	// uploads as well (contract 2.4.1).
	ActivityReceive = "a2a_receive"

	// MethodUpload is the method of entries that announce an upload.
	MethodUpload = "chat_upload_receive"

	// StatusOK is the status of entries that report no error.
	StatusOK = "ok"
)

// NewEntry is a feed entry to write. Nil fields are stored as NULL.
type NewEntry struct {
	ActivityType string
	SourceID     *uuid.UUID
	TargetID     *uuid.UUID
	Method       *string
	Summary      *string
	ErrorDetail  *string
	RequestBody  json.RawMessage
	ResponseBody json.RawMessage
	ToolTrace    json.RawMessage
	DurationMS   *int    // milliseconds
	Status       string  // empty means StatusOK
	MessageID    *string // unique in the feed
}

// Entry is a feed entry.
type Entry struct {
	ID           uuid.UUID
	WorkspaceID  storage.WorkspaceID // whose feed it is in
	Seq          int64               // 1, 2, 3 ... in the order of commits
	ActivityType string
	SourceID     *uuid.UUID
	TargetID     *uuid.UUID
	Method       *string
	Summary      *string
	ErrorDetail  *string
	RequestBody  json.RawMessage // compact; nil when NULL. The same for the next two
	ResponseBody json.RawMessage
	ToolTrace    json.RawMessage
	DurationMS   *int // milliseconds
	Status       string
	MessageID    *string
	CreatedAt    time.Time
	PeerName     string // of the source, with Query.PeerInfo; may be empty
	PeerRole     string // of the source, with Query.PeerInfo; may be empty
}

// Publisher is told of entries that are committed.
type Publisher interface {
	// Publish is called once for each write, after its commit, with the entries in
	// the order of seq. Calls for two writes of one workspace may come in any
	// order. It must not block and must not change the entries.
	Publish(entries []Entry)
}

// Publishers tells several.
type Publishers []Publisher

// Publish implements Publisher.
func (list Publishers) Publish(entries []Entry) {
	for _, p := range list {
		p.Publish(entries)
	}
}

// DefaultPageBytes is the size of bodies at which a page that has a cursor is
// cut (contract 2.5.3).
const DefaultPageBytes = 4 * storage.MiB

// ActivityConfig configures Activity.
type ActivityConfig struct {
	// DB is the database with both migration sets.
	DB DB

	// Publisher, where set, is told of everything written.
	Publisher Publisher

	// PageBytes is the size of bodies, in bytes of JSON, at which a page that has
	// a cursor is cut; DefaultPageBytes when 0. Pages without a cursor, from which
	// nobody can page forward, are cut at eight times as much.
	PageBytes int64

	// Notify has every write notify Channel with the workspace's id, as part of its
	// transaction, for the FeedWatch of each replica. It makes commits to all feeds
	// of the database wait for each other.
	Notify bool
}

// Activity is the feeds of all workspaces. It is an Announcer.
type Activity struct {
	db        DB
	publisher Publisher
	pageBytes int64
	notify    bool
}

var _ Announcer = (*Activity)(nil)

// NewActivity fills in the defaults. It does no I/O.
func NewActivity(cfg ActivityConfig) *Activity {
	if cfg.PageBytes <= 0 {
		cfg.PageBytes = DefaultPageBytes
	}
	return &Activity{db: cfg.DB, publisher: cfg.Publisher, pageBytes: cfg.PageBytes, notify: cfg.Notify}
}
