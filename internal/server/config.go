// Package server puts the service together: configuration, start order and
// shutdown. cmd/pendinguploads and cmd/dev run it; tests boot it on port 0.
package server

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/internal/signing"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// Config is everything that can be set, by flag or environment. Sizes are in
// bytes, durations in Go's notation (90s, 5m, 24h).
type Config struct {
	Database `embed:""`
	Objects  `embed:""`
	Uploads  `embed:""`
	Delivery `embed:""`
	Access   `embed:""`
	HTTP     `embed:""`
	Cleanup  `embed:""`
	Feed     `embed:""`
	Log      `embed:""`

	Migrate bool `env:"MIGRATE" help:"Apply pending migrations before serving instead of refusing an old schema."`
}

// Database says where metadata lies.
type Database struct {
	DatabaseURL      string `env:"DATABASE_URL" help:"PostgreSQL, as postgres://USER:PASSWORD@HOST/NAME. Required." placeholder:"URL"`
	DatabaseMaxConns int32  `env:"DATABASE_MAX_CONNS" default:"16" help:"Connections to PostgreSQL that one process opens at most."`
}

// Objects says where content lies. Credentials come by the AWS SDK's default
// chain: environment, shared profile, web identity, instance metadata.
type Objects struct {
	S3Bucket         string            `name:"s3-bucket" env:"S3_BUCKET" help:"Bucket for content. Unset: content stays in PostgreSQL." placeholder:"NAME"`
	S3Endpoint       string            `name:"s3-endpoint" env:"S3_ENDPOINT" help:"URL of an S3-compatible store such as MinIO. Unset: AWS." placeholder:"URL"`
	S3PublicEndpoint string            `name:"s3-public-endpoint" env:"S3_PUBLIC_ENDPOINT" help:"URL under which those who get presigned URLs reach the store. Unset: S3_ENDPOINT." placeholder:"URL"`
	S3Region         string            `name:"s3-region" env:"S3_REGION" help:"Region. Unset: the SDK's chain (AWS_REGION, profile), then us-east-1." placeholder:"NAME"`
	S3UsePathStyle   bool              `name:"s3-use-path-style" env:"S3_USE_PATH_STYLE" help:"Bucket in the path instead of the host name, as MinIO wants it."`
	S3Prefix         string            `name:"s3-prefix" env:"S3_PREFIX" default:"pending-uploads" help:"What object keys begin with. One prefix belongs to one database: the sweeper removes objects below it that have no row."`
	S3CreateBucket   bool              `name:"s3-create-bucket" env:"S3_CREATE_BUCKET" help:"Create the bucket when it does not exist."`
	S3Checksum       string            `name:"s3-checksum" env:"S3_CHECKSUM" default:"when_supported" enum:"when_supported,when_required" help:"Use of S3's flexible checksums: when_supported or when_required, for stores that refuse them."`
	S3SSE            string            `name:"s3-sse" env:"S3_SSE" default:"" enum:",AES256,aws:kms" help:"Encryption at rest of new objects: AES256 or aws:kms. Unset: the bucket's own." placeholder:"KIND"`
	S3SSEKMSKeyID    string            `name:"s3-sse-kms-key-id" env:"S3_SSE_KMS_KEY_ID" help:"Key for S3_SSE=aws:kms. Unset: the store's own." placeholder:"ID"`
	S3Tags           map[string]string `name:"s3-tags" env:"S3_TAGS" help:"Tags of new objects, at most 10." placeholder:"KEY=VALUE;..."`
}

// Uploads are limits and memory.
type Uploads struct {
	MaxFileBytes      int64         `env:"MAX_FILE_BYTES" default:"26214400" help:"Largest file, in bytes; at most 104857600. Released pollers drop files above 26214400."`
	MaxRequestBytes   int64         `env:"MAX_REQUEST_BYTES" default:"52428800" help:"Largest upload request, in bytes; more than MAX_FILE_BYTES."`
	UploadTTL         time.Duration `env:"UPLOAD_TTL" default:"24h" help:"How long a file waits to be acked."`
	WorkspaceMaxBytes int64         `env:"WORKSPACE_MAX_BYTES" default:"0" help:"Bytes that may wait for one workspace to ack them, at least MAX_FILE_BYTES; 0: no quota."`
	WorkspaceMaxFiles int64         `env:"WORKSPACE_MAX_FILES" default:"0" help:"Files that may wait for one workspace to ack them; 0: no quota."`
	ReadAfterAck      bool          `env:"READ_AFTER_ACK" help:"Keep acked files readable until they are swept, for canvases that are reloaded and files that agents show."`
	InlineMaxBytes    int64         `env:"INLINE_MAX_BYTES" default:"0" help:"Files up to this many bytes stay in PostgreSQL."`
	UploadMemoryBytes int64         `env:"UPLOAD_MEMORY_BYTES" default:"268435456" help:"Bytes that all running uploads may hold; beyond it they wait, then get 503. Content kept in PostgreSQL counts three times."`
	MaxUploadTime     time.Duration `env:"MAX_UPLOAD_TIME" default:"30m" help:"Longest upload, 1s to 168h; less than ORPHAN_GRACE."`
	DirectTTL         time.Duration `env:"DIRECT_TTL" default:"15m" help:"How long a direct upload to S3 may take from its reservation to its commit, at most MAX_UPLOAD_TIME and 168h; 0: no direct uploads."`
}

// Delivery says how content leaves.
type Delivery struct {
	ContentDelivery    string        `env:"CONTENT_DELIVERY" default:"proxy" enum:"proxy,redirect" help:"proxy: content goes through the service. redirect: those who follow redirects go to the object store. URLs for the asking (?delivery=url) in both. redirect needs PUBLIC_URL."`
	ContentRedirectFor string        `env:"CONTENT_REDIRECT_FOR" default:"asked" enum:"asked,all" help:"Who is redirected: who says that he follows (?delivery=redirect), or all who do not say otherwise. Released pollers write a redirect's body to disk and ack it."`
	PresignTTL         time.Duration `env:"PRESIGN_TTL" default:"5m" help:"How long URLs of content work, 1s to 168h; never longer than the file waits."`
	URLSigningKeys     string        `env:"URL_SIGNING_KEYS" help:"One or two keys, separated by a comma, each 32 bytes or more in hex or base64, the same on all replicas: the first signs, both are accepted. Unset: a random key a process. Prefer the environment." placeholder:"KEYS"`
}

// Access says who may do what.
type Access struct {
	AdminToken        string   `env:"ADMIN_TOKEN" help:"Bearer that administers. Unset: no administration over HTTP. Prefer the environment: other users of the machine see flags." placeholder:"TOKEN"`
	Registration      string   `env:"REGISTRATION" default:"closed" enum:"open,closed" help:"Who may register a workspace that holds no token: anybody (open), or the bearer of the admin or join token (closed)."`
	JoinToken         string   `env:"JOIN_TOKEN" help:"Bearer that may register new workspaces while REGISTRATION is closed." placeholder:"TOKEN"`
	RegisterFailOpen  bool     `env:"REGISTER_FAIL_OPEN" default:"true" negatable:"" help:"Let a registration through when the token lookup fails; otherwise answer 503."`
	CORSOrigins       []string `env:"CORS_ORIGINS" default:"http://localhost:3000,http://localhost:3001" help:"Origins of browsers that may call, besides the service's own. * is not allowed: credentials are sent."`
	WorkspaceNetworks string   `env:"WORKSPACE_NETWORKS" default:"public" enum:"public,private,any" help:"Where URLs of push-mode workspaces may point: public addresses, private ones (RFC 1918, fd00::/8) too, or any with loopback (development)."`
	RateLimit         int      `env:"RATE_LIMIT" default:"600" help:"Requests a minute per bearer or address; 0 for no limit. Content and ack are exempt."`
}

// HTTP says how the service is reached.
type HTTP struct {
	ListenAddr      string        `env:"LISTEN_ADDR" default:":8080" help:"Address to serve on."`
	MetricsAddr     string        `env:"METRICS_ADDR" help:"Further address that serves /metrics alone." placeholder:"ADDR"`
	PublicURL       string        `env:"PUBLIC_URL" help:"Base of URLs in replies. Unset: taken from the request." placeholder:"URL"`
	ForwardTimeout  time.Duration `env:"FORWARD_TIMEOUT" default:"20m" help:"Longest forward to a push-mode workspace."`
	ShutdownTimeout time.Duration `env:"SHUTDOWN_TIMEOUT" default:"30s" help:"How long running requests may finish after SIGTERM."`
	OfflineAfter    time.Duration `env:"WORKSPACE_OFFLINE_AFTER" default:"3m" help:"Silence after which a workspace is shown as offline."`
}

// Cleanup is the sweeper.
type Cleanup struct {
	AckRetention             time.Duration `env:"ACK_RETENTION" default:"1h" help:"How long acked rows stay; 0 means 1h."`
	SweepInterval            time.Duration `env:"SWEEP_INTERVAL" default:"5m" help:"Time between two sweeps."`
	OrphanGrace              time.Duration `env:"ORPHAN_GRACE" default:"1h" help:"Age at which an object without a row is removed; more than MAX_UPLOAD_TIME."`
	ActivityRetentionDays    int           `env:"ACTIVITY_RETENTION_DAYS" default:"7" help:"Days after which acked feed entries go."`
	ActivityHardRetention    int           `name:"activity-hard-retention-days" env:"ACTIVITY_HARD_RETENTION_DAYS" default:"30" help:"Days after which all feed entries go."`
	ActivityCleanupIntervalH int           `name:"activity-cleanup-interval-hours" env:"ACTIVITY_CLEANUP_INTERVAL_HOURS" default:"6" help:"Hours between two clean-ups of the feed."`
}

// Feed says how those who wait for a feed learn that it has grown.
type Feed struct {
	FeedNotify string `env:"FEED_NOTIFY" default:"on" enum:"on,off" help:"on: replicas notify each other through PostgreSQL (LISTEN needs a direct connection or a pooler in session mode). off: they poll for those who wait, every 4 seconds."`
}

// Log says what is written to standard error.
type Log struct {
	LogFormat string `env:"LOG_FORMAT" default:"text" enum:"text,json" help:"text or json."`
	LogLevel  string `env:"LOG_LEVEL" default:"info" enum:"debug,info,warn,error" help:"debug, info, warn or error."`
}

// errNoDatabase is what a start without DATABASE_URL ends in.
var errNoDatabase = errors.New("DATABASE_URL is missing, want postgres://USER:PASSWORD@HOST/NAME")

// Validate reports whether the database is named.
func (d Database) Validate() error {
	if d.DatabaseURL == "" {
		return errNoDatabase
	}
	if d.DatabaseMaxConns < 2 {
		return fmt.Errorf("DATABASE_MAX_CONNS is %d, want 2 or more", d.DatabaseMaxConns)
	}
	return nil
}

func (o Objects) validate() error {
	if err := checkURL("S3_ENDPOINT", o.S3Endpoint); err != nil {
		return err
	}
	if err := checkURL("S3_PUBLIC_ENDPOINT", o.S3PublicEndpoint); err != nil {
		return err
	}
	if o.S3SSEKMSKeyID != "" && o.S3SSE != string(s3blob.EncryptionKMS) {
		return fmt.Errorf("S3_SSE_KMS_KEY_ID is set and S3_SSE is %q, want %q", o.S3SSE, s3blob.EncryptionKMS)
	}
	if strings.HasPrefix(o.S3Prefix, "/") || strings.HasSuffix(o.S3Prefix, "/") {
		return fmt.Errorf("S3_PREFIX %q begins or ends with a slash", o.S3Prefix)
	}
	return nil
}

func (u Uploads) limits() storage.Limits {
	return storage.Limits{MaxFileBytes: u.MaxFileBytes, MaxRequestBytes: u.MaxRequestBytes}
}

func (u Uploads) quota() storage.Quota {
	return storage.Quota{Bytes: u.WorkspaceMaxBytes, Files: u.WorkspaceMaxFiles}
}

func (u Uploads) validate(inlineOnly bool) error {
	if err := u.limits().Validate(); err != nil {
		return err
	}
	if err := u.quota().Validate(u.limits()); err != nil {
		return err
	}
	switch {
	case u.InlineMaxBytes < 0:
		return fmt.Errorf("INLINE_MAX_BYTES is %d, want 0 or more", u.InlineMaxBytes)
	case u.UploadTTL < time.Second:
		return fmt.Errorf("UPLOAD_TTL is %v, want 1s or more", u.UploadTTL)
	case u.MaxUploadTime < time.Second || u.MaxUploadTime > blob.MaxPresignTTL:
		return fmt.Errorf("MAX_UPLOAD_TIME is %v, want 1s to %v", u.MaxUploadTime, blob.MaxPresignTTL)
	case u.DirectTTL != 0 && (u.DirectTTL < time.Second || u.DirectTTL > blob.MaxPresignTTL):
		return fmt.Errorf("DIRECT_TTL is %v, want 0 or 1s to %v", u.DirectTTL, blob.MaxPresignTTL)
	}
	if least := u.inlineRequest(inlineOnly) + partBytes; u.UploadMemoryBytes < least {
		return fmt.Errorf("UPLOAD_MEMORY_BYTES is %d, want %d or more with these limits", u.UploadMemoryBytes, least)
	}
	return nil
}

// inlineRequest is the most memory that the inline content of one request takes.
func (u Uploads) inlineRequest(inlineOnly bool) int64 {
	n := u.MaxRequestBytes
	if !inlineOnly {
		n = min(min(u.InlineMaxBytes, u.MaxFileBytes)*storage.MaxFilesPerBatch, n)
	}
	return n * staging.InlineCopies
}

// reservable is the share of UPLOAD_MEMORY_BYTES that inline content may take:
// all but one buffer where nothing else needs memory, else half, or what one
// request needs, because uploads then need buffers for their larger files too.
func (u Uploads) reservable(inlineOnly bool) int64 {
	if inlineOnly {
		return u.UploadMemoryBytes - partBytes
	}
	return min(max(u.UploadMemoryBytes/2, u.inlineRequest(false)), u.UploadMemoryBytes-partBytes)
}

func (d Delivery) validate(publicURL string) error {
	if d.PresignTTL < handlers.MinURLTTL || d.PresignTTL > handlers.MaxURLTTL {
		return fmt.Errorf("PRESIGN_TTL is %v, want %v to %v", d.PresignTTL, handlers.MinURLTTL, handlers.MaxURLTTL)
	}
	if d.ContentRedirectFor == "all" && !d.redirects() {
		return errors.New("CONTENT_REDIRECT_FOR is all and CONTENT_DELIVERY is proxy, want redirect")
	}
	if d.redirects() && publicURL == "" {
		// The name in a request may be a proxy's. Whether a redirect would take the
		// token along depends on the one that clients call.
		return errors.New("PUBLIC_URL is missing, which CONTENT_DELIVERY=redirect needs to see that the object store has another host name than the service")
	}
	if d.URLSigningKeys == "" {
		return nil
	}
	if _, err := signing.Parse(d.URLSigningKeys); err != nil {
		return fmt.Errorf("URL_SIGNING_KEYS: %w", err)
	}
	return nil
}

func (d Delivery) redirects() bool { return d.ContentDelivery == "redirect" }

func (d Delivery) delivery() handlers.Delivery {
	return handlers.Delivery{Redirect: d.redirects(), RedirectAll: d.ContentRedirectFor == "all", URLTTL: d.PresignTTL}
}

// validate checks what a single sweep needs too. AckRetention is not among it: a
// single sweep may take acked rows at once, which is a negative one.
func (c Cleanup) validate(maxUploadTime time.Duration) error {
	if c.SweepInterval <= 0 {
		return fmt.Errorf("SWEEP_INTERVAL is %v, want more than 0", c.SweepInterval)
	}
	if c.OrphanGrace <= maxUploadTime+time.Minute {
		return fmt.Errorf("ORPHAN_GRACE is %v, want more than MAX_UPLOAD_TIME (%v) and a minute", c.OrphanGrace, maxUploadTime)
	}
	for _, n := range []struct {
		name  string
		value int
	}{
		{"ACTIVITY_RETENTION_DAYS", c.ActivityRetentionDays},
		{"ACTIVITY_HARD_RETENTION_DAYS", c.ActivityHardRetention},
		{"ACTIVITY_CLEANUP_INTERVAL_HOURS", c.ActivityCleanupIntervalH},
	} {
		if n.value < 1 {
			return fmt.Errorf("%s is %d, want 1 or more", n.name, n.value)
		}
	}
	return nil
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	if err := c.Database.Validate(); err != nil {
		return err
	}
	if err := c.Objects.validate(); err != nil {
		return err
	}
	if err := c.Uploads.validate(c.S3Bucket == ""); err != nil {
		return err
	}
	if err := c.Delivery.validate(c.PublicURL); err != nil {
		return err
	}
	if err := c.Cleanup.validate(c.MaxUploadTime); err != nil {
		return err
	}
	if err := checkURL("PUBLIC_URL", c.PublicURL); err != nil {
		return err
	}
	for name, addr := range map[string]string{"LISTEN_ADDR": c.ListenAddr, "METRICS_ADDR": c.MetricsAddr} {
		if _, _, err := net.SplitHostPort(addr); err != nil && addr != "" {
			return fmt.Errorf("%s is %q, want HOST:PORT or :PORT", name, addr)
		}
	}
	for name, d := range map[string]time.Duration{
		"FORWARD_TIMEOUT": c.ForwardTimeout, "SHUTDOWN_TIMEOUT": c.ShutdownTimeout, "WORKSPACE_OFFLINE_AFTER": c.OfflineAfter,
	} {
		if d <= 0 {
			return fmt.Errorf("%s is %v, want more than 0", name, d)
		}
	}
	switch {
	case c.ListenAddr == "":
		return errors.New("LISTEN_ADDR is empty, want HOST:PORT or :PORT")
	case c.RateLimit < 0:
		return fmt.Errorf("RATE_LIMIT is %d, want 0 or more", c.RateLimit)
	case c.AckRetention < 0:
		return fmt.Errorf("ACK_RETENTION is %v, want 0 or more", c.AckRetention)
	}
	return nil
}

func checkURL(name, s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("%s is %q, want http://HOST or https://HOST", name, s)
	}
	return nil
}
