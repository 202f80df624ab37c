package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/molecule-ai/pendinguploads/handlers/outbound"
	"github.com/molecule-ai/pendinguploads/internal/signing"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// Registration says who may register a workspace id that holds no live
// instance token.
type Registration string

const (
	// RegistrationClosed wants the admin token or the join token. The default.
	RegistrationClosed Registration = "closed"
	// RegistrationOpen lets anybody in.
	RegistrationOpen Registration = "open"
)

// DefaultRateLimit is the number of requests per minute that one bearer or one
// address may make (contract 2.1).
const DefaultRateLimit = 600

// DefaultForwardTimeout bounds one upload or download forwarded to a push-mode
// workspace (contract 8.1).
const DefaultForwardTimeout = 20 * time.Minute

// ForeignFinder tells whose upload a file id is when it is not the caller's.
// Only the audit log and the wording of a 404 depend on it.
type ForeignFinder interface {
	// Foreign returns the owner of a live upload with that file id that belongs
	// to another workspace than ws.
	Foreign(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (owner storage.WorkspaceID, found bool, err error)
}

// Addresses is the policy for URLs of push-mode workspaces (contract 8.3).
type Addresses struct {
	SaaS        bool // workspaces live on a private network: RFC 1918 and fd00::/8 are allowed
	Development bool // additionally loopback is allowed
}

// Build describes the program for GET /buildinfo.
type Build struct {
	Version  string
	Revision string // commit, empty when unknown
}

// Config is what a Server is made from. Workspaces, Tokens and Activity are
// required; everything else has a default.
type Config struct {
	Storage    storage.Storage // nil: no staging, poll-mode uploads are refused with 422
	Direct     storage.Direct  // the same store; nil: no direct upload
	Uploads    ForeignFinder   // nil: no audit of foreign file ids
	Quota      QuotaChecker    // nil: a quota of the store's is seen when the content is there
	Corrupt    CorruptMarker   // nil: content that is found to be wrong is logged and counted alone
	Workspaces *metadata.Workspaces
	Tokens     *metadata.Tokens
	Activity   *metadata.Activity
	Watch      *metadata.FeedWatch // wakes those who wait for a feed; it must run and be among the Activity's publishers. nil: nobody can wait, as if the service knew no such thing
	Hub        *Hub                // live events; the same hub is the Activity's publisher. nil: one that nothing publishes to

	AdminToken       string       // empty: no admin
	Registration     Registration // default RegistrationClosed
	JoinToken        string       // accepted for registration where it is closed; empty: none
	RegisterFailOpen bool         // let a registration through when the token lookup fails, instead of 503

	Limits       storage.Limits // default storage.DefaultLimits
	Delivery     Delivery       // of content; the zero value sends everything through the service
	ReadAfterAck bool           // only picks the wording of a 404: the store decides what is readable
	CORSOrigins  []string       // origins allowed besides the server's own
	PublicURL    string         // base of URLs in replies, without trailing slash; default from the request
	RateLimit    int            // requests per minute and caller; 0 is DefaultRateLimit, negative is none
	Addresses    Addresses

	// SigningKeys sign what the service gives out and takes back, such as its own
	// URLs of content: one or two of 32 bytes or more, in hex or base64, separated
	// by a comma. The first signs, both are accepted; all replicas have the same.
	// Default a random one: only this Server takes back what it gave.
	SigningKeys string

	DirectTTL      time.Duration // from the reservation of a direct upload to its commit; default DefaultDirectTTL
	ForwardTimeout time.Duration // default DefaultForwardTimeout
	Timeouts       Timeouts      // each zero field has a default

	Logger  *slog.Logger         // default discards
	Metrics *prometheus.Registry // default a new one; served at GET /metrics
	Build   Build
}

// Server answers the routes. Create it with New.
type Server struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	feed     *feedMetrics
	keys     *signing.Keyring
	limiter  *limiter
	parts    *limiter // of files that are reserved in parts
	outbound *outbound.Client
	origins  map[string]bool
	handler  http.Handler

	copyBuffers sync.Pool   // of *[copyBytes]byte
	sameHost    atomic.Bool // it was said that redirects are not sent

	messages  *semaphore.Weighted // bytes of chat messages in memory
	streams   *feedStreams
	feedReads *semaphore.Weighted // readers of the feed for streams

	stopOnce sync.Once
	stopped  chan struct{}
}

// New validates cfg, fills its defaults and registers the metrics. It does no
// I/O and starts nothing. An error names the field that is wrong.
func New(cfg Config) (*Server, error) {
	if cfg.Workspaces == nil || cfg.Tokens == nil || cfg.Activity == nil {
		return nil, errors.New("handlers: Workspaces, Tokens and Activity are required")
	}
	switch cfg.Registration {
	case "":
		cfg.Registration = RegistrationClosed
	case RegistrationOpen, RegistrationClosed:
	default:
		return nil, fmt.Errorf("handlers: Registration is %q, want %q or %q", cfg.Registration, RegistrationOpen, RegistrationClosed)
	}
	if cfg.Limits == (storage.Limits{}) {
		cfg.Limits = storage.DefaultLimits()
	}
	if err := cfg.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("handlers: Limits: %w", err)
	}
	if cfg.RateLimit == 0 {
		cfg.RateLimit = DefaultRateLimit
	}
	if cfg.DirectTTL <= 0 {
		cfg.DirectTTL = DefaultDirectTTL
	}
	if cfg.ForwardTimeout <= 0 {
		cfg.ForwardTimeout = DefaultForwardTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	if cfg.Hub == nil {
		cfg.Hub = NewHub()
	}
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	var err error
	if cfg.Delivery, err = cfg.Delivery.withDefaults(); err != nil {
		return nil, fmt.Errorf("handlers: Delivery: %w", err)
	}
	keys := signing.Random()
	if cfg.SigningKeys != "" {
		if keys, err = signing.Parse(cfg.SigningKeys); err != nil {
			return nil, fmt.Errorf("handlers: SigningKeys: %w", err)
		}
	}

	origins := make(map[string]bool, len(cfg.CORSOrigins))
	for _, o := range cfg.CORSOrigins {
		norm, ok := normaliseOrigin(o)
		if !ok {
			return nil, fmt.Errorf("handlers: CORSOrigins (CORS_ORIGINS): %q is not an origin such as http://localhost:3000", o)
		}
		origins[norm] = true
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("handlers: Metrics: %w", err)
	}
	feed, err := newFeedMetrics(cfg.Metrics, cfg.Watch)
	if err != nil {
		return nil, fmt.Errorf("handlers: Metrics: %w", err)
	}
	s := &Server{
		cfg:     cfg,
		log:     cfg.Logger,
		metrics: m,
		feed:    feed,
		keys:    keys,
		limiter: newLimiter(cfg.RateLimit),
		parts:   newLimiter(partsPerMinute),
		origins: origins,
		outbound: outbound.New(outbound.Config{
			Policy:  outbound.Policy{PrivateNetworks: cfg.Addresses.SaaS, Development: cfg.Addresses.Development},
			Timeout: cfg.ForwardTimeout,
		}),
		messages:  semaphore.NewWeighted(a2aMemory),
		streams:   newFeedStreams(cfg.Timeouts.Heartbeat, feed.streams),
		feedReads: semaphore.NewWeighted(feedReaders),
		stopped:   make(chan struct{}),
	}
	s.copyBuffers.New = func() any { return new([copyBytes]byte) }
	s.handler = s.newRouter(s.routes())
	return s, nil
}

// Handler answers every route of the service.
func (s *Server) Handler() http.Handler { return s.handler }

// HTTPServer returns a server for addr with the header and idle timeouts set
// and its errors logged. Its Shutdown also ends long-lived connections such as
// WebSockets.
func (s *Server) HTTPServer(addr string) *http.Server {
	srv := &http.Server{
		Addr:              addr,
		Handler:           s.handler,
		ReadHeaderTimeout: s.cfg.Timeouts.Header,
		IdleTimeout:       s.cfg.Timeouts.Idle,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	srv.RegisterOnShutdown(s.stop)
	return srv
}

// maxHeaderBytes bounds a request's line and headers. Bearer, Origin and a
// query of a few ids are all that clients send.
const maxHeaderBytes = 64 << 10

// stop tells handlers of long-lived connections to end them. It does not wait.
func (s *Server) stop() {
	s.stopOnce.Do(func() {
		close(s.stopped)
		s.streams.stop()
		s.outbound.Close()
	})
}

// stopping is closed once the server shuts down.
func (s *Server) stopping() <-chan struct{} { return s.stopped }
