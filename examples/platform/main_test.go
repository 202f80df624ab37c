package main

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// The platform is started with the other constructor: what it staged before is
// served on, by the same addresses.
func TestSwapConstructor(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		b := openBackend(t)
		base, stop := b.run(t)
		c := client{t, base, uuid.New()}
		old := c.upload(file{"old.txt", "text/plain", []byte("in the row")}, file{"older.txt", "text/plain", []byte("in the row")})
		stop()

		b.useS3(server)
		c.base, _ = b.run(t)
		fresh := c.upload(file{"new.txt", "text/plain", []byte("in an object")})[0]
		for _, query := range []string{"", "?delivery=url"} {
			c.content(old[0].FileID, query).want(t, http.StatusOK, "in the row")
		}
		c.content(fresh.FileID, "").want(t, http.StatusOK, "in an object")
		c.content(fresh.FileID, "?delivery=url").want(t, http.StatusOK, `"url":"http`)
		c.ack(old[0].FileID).want(t, http.StatusOK)
		c.ack(fresh.FileID).want(t, http.StatusOK)
		if entries := c.feed(""); len(entries) != 3 {
			t.Errorf("%d entries, want 3", len(entries))
		}
		if swept, err := b.store(t).Sweep(t.Context(), 0); err != nil || swept.Acked != 2 {
			t.Errorf("sweep: %+v, %v", swept, err)
		}
		c.content(old[1].FileID, "").want(t, http.StatusOK, "in the row")
		if n := b.objects(t); n != 0 {
			t.Errorf("%d objects are left", n)
		}
	})
}

// The program sweeps by itself, from its start.
func TestSweeperRuns(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, b backend) {
		base, stop := b.run(t)
		c := client{t, base, uuid.New()}
		staged := c.upload(file{"expired", "", noise(100 << 10)}, file{"acked", "", noise(100 << 10)}, file{"live", "", noise(100 << 10)})
		c.ack(staged[1].FileID).want(t, http.StatusOK)
		stop()
		for _, update := range []string{
			`UPDATE pending_uploads SET expires_at = now() - interval '1 second' WHERE filename = 'expired'`,
			`UPDATE pending_uploads SET acked_at = acked_at - interval '1 hour' WHERE filename = 'acked'`,
		} {
			if _, err := b.db.ExecContext(t.Context(), update); err != nil {
				t.Fatal(err)
			}
		}
		b.ackRetention = time.Hour
		c.base, _ = b.run(t)
		waitFor(t, "the sweep", func() bool { return b.count(t, "pending_uploads") == 1 })
		c.content(staged[2].FileID, "").want(t, http.StatusOK)
		if n := b.objects(t); b.server != nil && n != 1 {
			t.Errorf("%d objects, want 1", n)
		}
	})
}

func TestParse(t *testing.T) {
	t.Parallel()
	environment := map[string]string{
		"DATABASE_URL": "postgres://db", "PLATFORM_TOKEN": "t", "S3_BUCKET": "b", "S3_ENDPOINT": "http://s3", "S3_PUBLIC_ENDPOINT": "https://files",
		"S3_REGION": "r", "S3_USE_PATH_STYLE": "true", "S3_PREFIX": "p", "S3_CREATE_BUCKET": "true",
	}
	cfg, err := parse([]string{"-storage", "s3", "-listen", ":1", "-read-after-ack", "-ack-retention", "2h", "-inline-max-bytes", "9"}, func(key string) string { return environment[key] })
	if err != nil {
		t.Fatal(err)
	}
	if cfg.listen != ":1" || cfg.database != "postgres://db" || cfg.token != "t" || cfg.storage != "s3" || cfg.ackRetention != 2*time.Hour || len(cfg.options) != 3 || !cfg.createBucket ||
		cfg.s3.Bucket != "b" || cfg.s3.Endpoint != "http://s3" || cfg.s3.PublicEndpoint != "https://files" || cfg.s3.Region != "r" || !cfg.s3.PathStyle {
		t.Errorf("%+v", cfg)
	}
	delete(environment, "S3_PREFIX")
	if cfg, err = parse(nil, func(key string) string { return environment[key] }); err != nil || len(cfg.options) != 1 {
		t.Errorf("without S3_PREFIX: %d options, want the default prefix: %v", len(cfg.options), err)
	}
	for _, c := range []struct{ without, args, want string }{
		{"DATABASE_URL", "", "DATABASE_URL is not set"},
		{"PLATFORM_TOKEN", "", "PLATFORM_TOKEN is not set"},
		{"S3_BUCKET", "-storage=s3", "S3_BUCKET is not set"},
		{"", "-storage=disk", `-storage is "disk", want postgres or s3`},
		{"", "-inline-max-bytes=-1", "-inline-max-bytes is -1, want 0 or more"},
	} {
		err := start(t.Context(), strings.Fields(c.args), func(key string) string {
			if key == c.without {
				return ""
			}
			return environment[key]
		}, slog.New(slog.DiscardHandler))
		if err == nil || err.Error() != c.want {
			t.Errorf("%s without %q: %v, want %s", c.args, c.without, err, c.want)
		}
	}
	cfg, err = parse(nil, func(key string) string { return environment[key] })
	if err != nil || cfg.storage != "postgres" || cfg.ackRetention != pendinguploads.DefaultAckRetention {
		t.Errorf("%+v, %v", cfg, err)
	}
}
