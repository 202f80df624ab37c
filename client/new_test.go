package client_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

func TestNewNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	good := client.Config{BaseURL: "https://files.example.org/sub/", Workspace: storage.WorkspaceID(uuid.New())}
	if _, err := client.New(good); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*client.Config)
		want   string
	}{
		"no address":         {func(c *client.Config) { c.BaseURL = "" }, "BaseURL"},
		"no scheme":          {func(c *client.Config) { c.BaseURL = "files.example.org" }, "BaseURL"},
		"another scheme":     {func(c *client.Config) { c.BaseURL = "ftp://files.example.org" }, "BaseURL"},
		"user information":   {func(c *client.Config) { c.BaseURL = "https://me:secret@files.example.org" }, "BaseURL"},
		"a query":            {func(c *client.Config) { c.BaseURL = "https://files.example.org?x=1" }, "BaseURL"},
		"no workspace":       {func(c *client.Config) { c.Workspace = storage.WorkspaceID{} }, "Workspace"},
		"a line in a token":  {func(c *client.Config) { c.Token = "secret\n" }, "Token"},
		"another way":        {func(c *client.Config) { c.FetchBy = "mail" }, "FetchBy"},
		"a client with time": {func(c *client.Config) { c.HTTP = &http.Client{Timeout: time.Second} }, "HTTP.Timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			c.change(&cfg)
			_, err := client.New(cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want an error that names %s and no secret", err, c.want)
			}
		})
	}
}

func TestBatches(t *testing.T) {
	t.Parallel()
	file := func(size int64) client.File { return client.File{Name: "f", Size: size} }
	many := make([]client.File, 130)
	for i := range many {
		many[i] = file(1)
	}
	limits := wire.Limits{PerFileBytes: 100 << 10, PerRequestBytes: 200 << 10}
	for name, c := range map[string]struct {
		files []client.File
		want  []int // files of each request
		err   error
	}{
		"none":           {nil, nil, nil},
		"one":            {[]client.File{file(100 << 10)}, []int{1}, nil},
		"130 small ones": {many, []int{49, 49, 32}, nil}, // framing counts
		"more than fit":  {[]client.File{file(90 << 10), file(90 << 10), file(90 << 10)}, []int{2, 1}, nil},
		"unknown size":   {[]client.File{file(1), file(-1), file(1)}, []int{1, 1, 1}, nil},
		"too large":      {[]client.File{file(1), file(100<<10 + 1)}, nil, client.ErrTooLarge},
		"empty":          {[]client.File{file(0)}, nil, client.ErrEmptyFile},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			batches, err := client.Batches(c.files, limits)
			if !errors.Is(err, c.err) {
				t.Fatalf("got error %v, want %v", err, c.err)
			}
			var got []int
			for _, b := range batches {
				got = append(got, len(b))
			}
			if len(got) != len(c.want) {
				t.Fatalf("got %v, want %v", got, c.want)
			}
			for i := range got {
				if got[i] > storage.MaxFilesPerBatch || got[i] != c.want[i] {
					t.Errorf("got %v, want %v", got, c.want)
				}
			}
		})
	}
}
