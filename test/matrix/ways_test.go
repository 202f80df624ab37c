package matrix

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"testing"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// Ways in and out, as the page names them.
const (
	inMultipart = "multipart"
	inDirect    = "direct"
	outProxy    = "proxy"
	outURL      = "`delivery=url`"
	outRedirect = "redirect"
)

// get asks the service, and follows where it leads.
func (c *cell) get(t *testing.T, path string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+service+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	return c.web.Do(r)
}

// from wants an answer to be of the given host.
func from(response *http.Response, err error, host string) (*http.Response, error) {
	if err != nil {
		return nil, err
	}
	if got := response.Request.URL.Host; got != host {
		_ = response.Body.Close()
		return nil, fmt.Errorf("%s answered, want %s", got, host)
	}
	return response, nil
}

// proxied asks as released pollers do.
func (c *cell) proxied(t *testing.T, path string) (*http.Response, error) {
	t.Helper()
	response, err := c.get(t, path)
	return from(response, err, service)
}

func (c *cell) redirected(t *testing.T, path string) (*http.Response, error) {
	t.Helper()
	response, err := c.get(t, path+"?delivery=redirect")
	return from(response, err, c.store)
}

func (c *cell) byURL(t *testing.T, path string) (*http.Response, error) {
	t.Helper()
	answer, err := c.get(t, path+"?delivery=url")
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	var at wire.ContentURL
	if err := json.NewDecoder(answer.Body).Decode(&at); err != nil || answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s, %w", answer.Status, err)
	}
	if at.SHA256 != digest(t, at.Size).String() {
		return nil, fmt.Errorf("SHA-256 %s announced for %d bytes", at.SHA256, at.Size)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at.URL, nil)
	if err != nil {
		return nil, err
	}
	for name, value := range at.Headers {
		r.Header.Set(name, value)
	}
	response, err := c.web.Do(r)
	return from(response, err, c.store)
}

// dispositionName is the name that an answer suggests.
func dispositionName(h http.Header) string {
	_, params, err := mime.ParseMediaType(h.Get("Content-Disposition"))
	if err != nil {
		return ""
	}
	return params["filename"]
}
