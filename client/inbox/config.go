package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// URIStyle is how messages name files that are in the folder.
type URIStyle string

const (
	// StyleWorkspace is workspace:/absolute/path, what the released runtimes give
	// their agents (contract 7.1). The default.
	StyleWorkspace URIStyle = "workspace:"
	// StyleFile is file:///absolute/path, percent-encoded.
	StyleFile URIStyle = "file://"
)

const (
	// DefaultFetchers is how many files are fetched at a time (contract 7.1).
	DefaultFetchers = 4
	// DefaultMinFree is what a fetch leaves free on the disk, in bytes.
	DefaultMinFree = 64 * storage.MiB
	// DefaultHandlerAttempts is how often a message is offered to the handler.
	DefaultHandlerAttempts = 10
	// DefaultHeartbeat is the time between two heartbeats: the service shows a
	// workspace as offline after 180 s without one.
	DefaultHeartbeat = 30 * time.Second
	// DefaultDrainTimeout is how long a message waits for files.
	DefaultDrainTimeout = 2 * time.Minute
)

// Config describes an inbox. Its functions may be called from several goroutines,
// but each of them never twice at the same time; they must not block for long,
// the handler apart.
type Config struct {
	// Client talks to the service as the workspace whose inbox this is.
	Client *client.Client

	// Dir is the folder that files appear in. It is made, 0700, when Run begins
	// and it is missing; a folder that vanishes later is waited for.
	Dir string

	// Journal is the file that holds the cursor and what is known of files and
	// messages; a lock lies beside it, with .lock behind its name. It must not lie
	// in Dir. Default Dir with .journal behind it.
	Journal string

	Fetchers     int      // files at a time; default DefaultFetchers
	URIStyle     URIStyle // default StyleWorkspace
	MinFree      int64    // bytes that a fetch leaves free on the disk; default DefaultMinFree; negative: no check
	MaxFileBytes int64    // larger files are given up, without an ack; default 0: no bound

	// DrainTimeout is how long a message waits for the files announced before it,
	// besides 1 ms for each 100 bytes of them. Then it is delivered with what is
	// there, and they are fetched all the same. Default DefaultDrainTimeout.
	DrainTimeout time.Duration

	// OnFile is told of each file that is in the folder for good, and of each that
	// was given up: then File.Err says why. After a crash it may be told of one again.
	OnFile func(File)

	// OnProgress is told how many bytes of a file have arrived: when a fetch begins,
	// those that an earlier one left, mostly 0, and a negative number when it ended without the file; the file is then
	// fetched again later, or OnFile says why not.
	OnProgress func(f File, done int64)

	// OnTrouble is told what keeps the inbox from working, once for each trouble
	// rather than at each attempt, and with nil when all is well again. Everything
	// it is told of is tried again, except messages that are skipped.
	OnTrouble func(error)

	// Handler gets the messages in order, one at a time. One that it returns nil
	// for never comes again; one that it fails for comes again after a pause. While
	// it runs, files that are announced behind the message are fetched, as far as 256
	// rows and 32 MiB of them are read ahead. Default: messages are passed over.
	Handler func(context.Context, Message) error

	// HandlerAttempts is how often the handler may fail for a message within one Run
	// before the message is skipped. Default DefaultHandlerAttempts; negative: for
	// ever.
	HandlerAttempts int

	// Heartbeat is the time between two heartbeats. Default DefaultHeartbeat;
	// negative: none.
	Heartbeat time.Duration

	// Follow says how to follow the feed. Its After is the journal's; its Once makes
	// Run end when there is nothing more.
	Follow client.FollowConfig

	// Logger is told what the inbox does. Default discards.
	Logger *slog.Logger
}

// File is a file of the workspace.
type File struct {
	ID       storage.FileID
	URI      string // platform-pending:WORKSPACE/FILE
	MIMEType string
	Size     int64          // bytes
	SHA256   storage.Digest // zero while it is not here
	Name     string         // in the folder; while it is not here, as announced
	Path     string         // absolute; empty while it is not here
	LocalURI string         // Path in the configured style; empty while it is not here
	Err      error          // why it was given up
}

// Message is a row of the feed for the handler.
type Message struct {
	// Activity is the row, with the URIs of files that are here replaced by local
	// ones in its bodies and attachments; everything else in the bodies is byte for
	// byte as it came.
	Activity wire.Activity
	Text     string // the text parts, or the row's summary where there are no parts
	// Files are those that the row cites, in order. One that is not here has an
	// empty Path, and its URI stands in the bodies as it was.
	Files []File
}

// Inbox receives a workspace's files and messages.
type Inbox struct {
	cfg Config
	log *slog.Logger
	tuning
}

// New validates cfg and fills its defaults. It does no I/O. An error names the
// field that is wrong.
func New(cfg Config) (*Inbox, error) {
	if cfg.Client == nil {
		return nil, errors.New("inbox: Client is required")
	}
	if cfg.Dir == "" {
		return nil, errors.New("inbox: Dir is required")
	}
	var err error
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("inbox: Dir: %w", err)
	}
	if cfg.Journal == "" {
		cfg.Journal = cfg.Dir + ".journal"
	}
	if cfg.Journal, err = filepath.Abs(cfg.Journal); err != nil {
		return nil, fmt.Errorf("inbox: Journal: %w", err)
	}
	if rel, err := filepath.Rel(cfg.Dir, cfg.Journal); err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return nil, fmt.Errorf("inbox: Journal %s lies in Dir %s, want it outside: a folder that vanishes must not take it along", cfg.Journal, cfg.Dir)
	}
	switch cfg.URIStyle {
	case "":
		cfg.URIStyle = StyleWorkspace
	case StyleWorkspace, StyleFile:
	default:
		return nil, fmt.Errorf("inbox: URIStyle is %q, want %q or %q", cfg.URIStyle, StyleWorkspace, StyleFile)
	}
	switch {
	case cfg.Fetchers < 0:
		return nil, fmt.Errorf("inbox: Fetchers is %d, want 1 or more", cfg.Fetchers)
	case cfg.MaxFileBytes < 0:
		return nil, fmt.Errorf("inbox: MaxFileBytes is %d, want 0 or more", cfg.MaxFileBytes)
	case cfg.DrainTimeout < 0:
		return nil, fmt.Errorf("inbox: DrainTimeout is %v, want more than 0", cfg.DrainTimeout)
	}
	setDefault(&cfg.Fetchers, DefaultFetchers)
	setDefault(&cfg.MinFree, DefaultMinFree)
	setDefault(&cfg.DrainTimeout, DefaultDrainTimeout)
	setDefault(&cfg.HandlerAttempts, DefaultHandlerAttempts)
	setDefault(&cfg.Heartbeat, DefaultHeartbeat)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Inbox{cfg: cfg, log: cfg.Logger, tuning: newTuning()}, nil
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
