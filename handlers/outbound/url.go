package outbound

import (
	"context"
	"net/url"
	"strings"
)

// CheckRegistration decides whether a workspace may register the URL. The word
// localhost as host is taken without a look at where it leads: development
// tools register it before anything listens, and no call to it gets past Check.
// The error is a *NotAllowedError or that of a cancelled ctx.
func (c *Client) CheckRegistration(ctx context.Context, rawURL string) error {
	u, err := parse(rawURL)
	if err != nil {
		return err
	}
	if strings.EqualFold(u.Hostname(), "localhost") {
		return nil
	}
	return c.check(ctx, u)
}

// Check decides whether the platform may call the URL now: every address its
// host resolves to must pass. The error is a *NotAllowedError or that of a
// cancelled ctx.
func (c *Client) Check(ctx context.Context, rawURL string) error {
	u, err := parse(rawURL)
	if err != nil {
		return err
	}
	return c.check(ctx, u)
}

func (c *Client) check(ctx context.Context, u *url.URL) error {
	if err := validate(u); err != nil {
		return err
	}
	addrs, err := c.lookup(ctx, u.Hostname())
	if err != nil {
		return err
	}
	for _, addr := range addrs {
		if err := c.policy.Allow(addr); err != nil {
			return err
		}
	}
	return nil
}

// Endpoint is the URL of a path below a workspace's URL, whose query and
// fragment are dropped. The path starts with a slash.
func Endpoint(workspaceURL, path string, query url.Values) (*url.URL, error) {
	u, err := parse(workspaceURL)
	if err != nil {
		return nil, err
	}
	return &url.URL{
		Scheme:   u.Scheme,
		Host:     u.Host,
		Path:     strings.TrimRight(u.Path, "/") + path,
		RawPath:  strings.TrimRight(u.EscapedPath(), "/") + path,
		RawQuery: query.Encode(),
	}, nil
}

func parse(rawURL string) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, &NotAllowedError{Reason: "url is not a valid URL", Err: err}
	}
	if err := validate(u); err != nil {
		return nil, err
	}
	return u, nil
}

func validate(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return &NotAllowedError{Reason: "url must use http or https"}
	case u.Hostname() == "":
		return &NotAllowedError{Reason: "url must name a host"}
	case u.User != nil:
		// The URL of a workspace is public.
		return &NotAllowedError{Reason: "url must not carry credentials"}
	}
	return nil
}
