package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/molecule-ai/pendinguploads/storage"
)

// DefaultPatience is how long a call that may be repeated is repeated before its
// error is returned.
const DefaultPatience = 2 * time.Minute

// DefaultSilence is three of the service's heartbeats on a stream.
const DefaultSilence = 45 * time.Second

const (
	// answerTime bounds one attempt of a call with a short answer.
	answerTime = 30 * time.Second
	// maxReply bounds an answer that is read whole: a page of 4 MiB of bodies, or
	// one body of 16 MiB, with their escapes (contract 2.5.3, 2.9).
	maxReply = 64 << 20
)

// Config says which service to talk to, and as whom.
type Config struct {
	// BaseURL is the service's address, http or https, such as
	// https://files.example.org. A path is kept.
	BaseURL string

	// Workspace is the workspace that calls are about.
	Workspace storage.WorkspaceID

	// Token is sent as the bearer: the workspace's, or the administrator's. It may
	// be empty until Register has returned one; see Client.SetToken.
	Token string

	// HTTP makes the requests. Its Timeout must be zero, because streams and large
	// files have no bound in time; its redirects are never followed, so that no
	// token can reach another host. Default: a client of its own.
	HTTP *http.Client

	// Patience is how long calls that may be repeated are repeated after network
	// errors and answers such as 503. Default DefaultPatience; negative: never.
	Patience time.Duration

	// Silence is how long content or a stream may pause before its connection counts
	// as dead and another takes its place. A stream carries a heartbeat every 15 s.
	// Default DefaultSilence.
	Silence time.Duration

	// FetchBy says where Fetch gets content. Default FetchByProxy.
	FetchBy FetchWay

	// UserAgent is sent with each request. Default "pendinguploads".
	UserAgent string

	// Logger is told what is tried again. Default discards.
	Logger *slog.Logger
}

// Client talks to a service as one workspace. Its methods may be called at the
// same time from several goroutines, SetToken apart.
type Client struct {
	cfg  Config
	base *url.URL
	http *http.Client
	log  *slog.Logger

	store storeWay
}

// New validates cfg and fills its defaults. It does no I/O. An error names the
// field that is wrong.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(cfg.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("client: BaseURL: %w", err)
	}
	if base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, fmt.Errorf("client: BaseURL is %q, want one such as https://files.example.org", base.Redacted())
	}
	base.Path = strings.TrimRight(base.Path, "/")
	if cfg.Workspace.IsZero() {
		return nil, errors.New("client: Workspace is required")
	}
	if strings.ContainsAny(cfg.Token, " \t\r\n") {
		return nil, errors.New("client: Token contains white space")
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{Transport: newTransport()}
	}
	if cfg.HTTP.Timeout != 0 {
		return nil, fmt.Errorf("client: HTTP.Timeout is %v, want 0: streams and large files take longer than any", cfg.HTTP.Timeout)
	}
	if cfg.Patience == 0 {
		cfg.Patience = DefaultPatience
	}
	if cfg.Silence < 0 {
		return nil, fmt.Errorf("client: Silence is %v, want more than 0", cfg.Silence)
	}
	if cfg.Silence == 0 {
		cfg.Silence = DefaultSilence
	}
	switch cfg.FetchBy {
	case "":
		cfg.FetchBy = FetchByProxy
	case FetchByProxy, FetchByURL:
	default:
		return nil, fmt.Errorf("client: FetchBy is %q, want %q or %q", cfg.FetchBy, FetchByProxy, FetchByURL)
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "pendinguploads"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	own := *cfg.HTTP
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{cfg: cfg, base: base, http: &own, log: cfg.Logger}, nil
}

// newTransport is a transport with the bounds that a laptop's network needs.
// HTTP/2 is left out: a stream, four fetches and a few calls need no more than
// six connections, and one dead connection then stalls one of them only.
func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       90 * time.Second,
		// Content comes as it was stored: a decoded body has another length.
		DisableCompression: true,
	}
}

// Workspace is the workspace that calls are about.
func (c *Client) Workspace() storage.WorkspaceID { return c.cfg.Workspace }

// SetToken replaces the bearer, such as after the registration that returned it.
// It must not run at the same time as other methods.
func (c *Client) SetToken(token string) { c.cfg.Token = token }

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// workspacePath is a path below the workspace's.
func (c *Client) workspacePath(rest string) string {
	return "/workspaces/" + c.cfg.Workspace.String() + rest
}

// request makes a request with everything that all of them carry.
func (c *Client) request(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Request, error) {
	u := *c.base
	u.Path += path
	u.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	r.Header.Set("User-Agent", c.cfg.UserAgent)
	if c.cfg.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	return r, nil
}

// call sends a request with a JSON body, unless in is nil, and decodes the
// answer into out, unless that is nil. One attempt.
func (c *Client) call(ctx context.Context, limit time.Duration, method, path string, query url.Values, in, out any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errNoAnswer)
	defer cancel()
	var body io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the body of %s %s: %w", method, path, err)
		}
		body = bytes.NewReader(encoded)
	}
	r, err := c.request(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(r)
	if err != nil {
		return sendError(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusCreated {
		return answerError(response)
	}
	return decode(ctx, response, out)
}

func decode(ctx context.Context, response *http.Response, out any) error {
	data, err := io.ReadAll(io.LimitReader(response.Body, maxReply+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the answer: %w", orCause(ctx, err))
	case len(data) > maxReply:
		return fmt.Errorf("read the answer: %w", errReplyTooLarge)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return &NotTheServiceError{ContentType: response.Header.Get("Content-Type"), Err: err}
	}
	return nil
}

// orCause puts a timeout of ours in place of the cancellation it caused.
func orCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}
