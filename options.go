package pendinguploads

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// Option changes a default of NewPostgres or NewS3. A value that cannot be used
// is a panic of the constructor, which names it: there is no request to answer
// with an error yet.
type Option func(*settings)

type settings struct {
	reference      bool
	inlineMaxBytes int64
	maxFileBytes   int64
	keyPrefix      string
	readAfterAck   bool
	now            func() time.Time
	log            *slog.Logger
	metrics        prometheus.Registerer

	// What the conformance suite sets.
	hook            func(staging.Rows) staging.Rows
	budget          staging.Budget
	maxFiles        int
	maxRequestBytes int64
}

// WithInlineMaxBytes keeps files of up to n bytes in the row, also with NewS3.
// Default 0: none. With the cap of a file or more everything is inline, and only
// what is in the object store already is read from there.
func WithInlineMaxBytes(n int64) Option { return func(s *settings) { s.inlineMaxBytes = n } }

// WithMaxFileBytes is the cap of a file: 1 to 104,857,600 bytes, MaxFileBytes by
// default. The platforms' own table has a check of its own, which may be lower;
// Migrate raises it to the highest.
func WithMaxFileBytes(n int64) Option { return func(s *settings) { s.maxFileBytes = n } }

// WithReadAfterAck keeps acked files readable until they are swept or expire, as
// later versions of the platforms do (contract 3.3). By default Get and
// MarkFetched do not find them.
func WithReadAfterAck() Option { return func(s *settings) { s.readAfterAck = true } }

// WithKeyPrefix is put before object keys: PREFIX/WORKSPACE/FILE. Default
// "pending-uploads", as S3_PREFIX of the commands, which have to agree with it. No
// other software may write below it: what has no row there is removed. Empty is
// allowed.
func WithKeyPrefix(prefix string) Option { return func(s *settings) { s.keyPrefix = prefix } }

// WithClock is the wall clock for ages of objects and lives of URLs; rows are
// judged by the database's clock. Default time.Now.
func WithClock(now func() time.Time) Option { return func(s *settings) { s.now = now } }

// WithLogger receives what no caller is told. Default slog.Default.
func WithLogger(log *slog.Logger) Option { return func(s *settings) { s.log = log } }

// WithRegisterer takes the metrics of StartSweeper (contract 9.1). Default: none.
func WithRegisterer(r prometheus.Registerer) Option { return func(s *settings) { s.metrics = r } }
