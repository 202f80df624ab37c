package handlers_test

import (
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

func TestNewNamesTheFieldThatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		want   string
		change func(*handlers.Config)
	}{
		{"Tokens", func(c *handlers.Config) { c.Tokens = nil }},
		{"Registration", func(c *handlers.Config) { c.Registration = "sometimes" }},
		{"MAX_FILE_BYTES", func(c *handlers.Config) { c.Limits = storage.Limits{MaxFileBytes: 1 << 40, MaxRequestBytes: 1 << 41} }},
		{"MAX_REQUEST_BYTES", func(c *handlers.Config) { c.Limits = storage.Limits{MaxFileBytes: 10, MaxRequestBytes: 10} }},
		{"CORSOrigins", func(c *handlers.Config) { c.CORSOrigins = []string{"localhost:3000"} }},
		{"CORSOrigins", func(c *handlers.Config) { c.CORSOrigins = []string{"*"} }},
		{"Delivery", func(c *handlers.Config) { c.Delivery.URLTTL = handlers.MaxURLTTL + 1 }},
		{"Delivery", func(c *handlers.Config) { c.Delivery.RedirectAll = true }},
		{"SigningKeys", func(c *handlers.Config) { c.SigningKeys = "short" }},
	} {
		cfg := handlers.Config{
			Workspaces: metadata.NewWorkspaces(metadata.WorkspacesConfig{}),
			Tokens:     metadata.NewTokens(nil),
			Activity:   metadata.NewActivity(metadata.ActivityConfig{}),
		}
		if _, err := handlers.New(cfg); err != nil {
			t.Fatalf("the defaults alone are refused: %v", err)
		}
		tc.change(&cfg)
		if _, err := handlers.New(cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v does not name %s", err, tc.want)
		}
	}
}
