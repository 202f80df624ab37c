package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

const (
	// DefaultTimeout bounds one call from dial to the last byte of the reply
	// (contract 8.1).
	DefaultTimeout = 1200 * time.Second

	// DefaultResponseHeaderTimeout is how long a workspace may think after it has
	// the whole request. Agents answer messages on this path, so it is minutes.
	DefaultResponseHeaderTimeout = 300 * time.Second

	dialTimeout         = 10 * time.Second // contract 8.3
	keepAlive           = 30 * time.Second // contract 8.3
	tlsHandshakeTimeout = 5 * time.Second  // contract 8.3
	lookupTimeout       = 10 * time.Second
	idleConnTimeout     = 90 * time.Second
)

// Config is what a Client needs. The zero value is usable and strict.
type Config struct {
	Policy Policy

	// Resolver turns host names into addresses, for the checks and for the dial;
	// nil for the system's.
	Resolver *net.Resolver

	// Timeout bounds one whole call; 0 means DefaultTimeout.
	Timeout time.Duration

	// ResponseHeaderTimeout is the wait for the reply's header once the request
	// is written; 0 means DefaultResponseHeaderTimeout.
	ResponseHeaderTimeout time.Duration
}

// Client calls workspaces. It is safe for concurrent use.
type Client struct {
	policy    Policy
	resolver  *net.Resolver
	timeout   time.Duration
	transport *http.Transport
	http      *http.Client
}

// New returns a client.
func New(cfg Config) *Client {
	c := &Client{policy: cfg.Policy, resolver: cfg.Resolver, timeout: cfg.Timeout}
	if c.resolver == nil {
		c.resolver = net.DefaultResolver
	}
	if c.timeout == 0 {
		c.timeout = DefaultTimeout
	}
	headerTimeout := cfg.ResponseHeaderTimeout
	if headerTimeout == 0 {
		headerTimeout = DefaultResponseHeaderTimeout
	}
	dialer := &net.Dialer{
		Timeout:        dialTimeout,
		KeepAlive:      keepAlive,
		Resolver:       c.resolver,
		ControlContext: c.controlDial,
	}
	c.transport = &http.Transport{
		Proxy:                 nil, // a proxy would dial for us, past the address rules
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   tlsHandshakeTimeout,
		ResponseHeaderTimeout: headerTimeout,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       idleConnTimeout,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   4,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // replies are relayed byte for byte
	}
	c.http = &http.Client{
		Transport: c.transport,
		Timeout:   c.timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			// Following would send the workspace's secret wherever it points.
			return http.ErrUseLastResponse
		},
	}
	return c
}

// Do sends the request and returns the reply, a redirect included, whatever its
// status. The caller closes the reply's body. A target that the address rules
// refuse is ErrNotAllowed; nothing was sent then.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	if err := c.check(req.Context(), req.URL); err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("call workspace at %s: %w", req.URL.Host, err)
	}
	return resp, nil
}

// Timeout is the bound on one whole call.
func (c *Client) Timeout() time.Duration { return c.timeout }

// Close drops idle connections. Calls under way go on.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// controlDial runs with the address that is about to be connected to: after
// name resolution, so whatever the checks before saw, this is what counts.
func (c *Client) controlDial(_ context.Context, network, address string, _ syscall.RawConn) error {
	switch network {
	case "tcp4", "tcp6":
	default:
		return &NotAllowedError{Reason: "url leads to a network that is not TCP"}
	}
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return &NotAllowedError{Reason: "url has no usable address", Err: err}
	}
	return c.policy.Allow(target.Addr())
}

// lookup resolves a host name to all its addresses. Literal addresses resolve
// to themselves.
func (c *Client) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	lookupCtx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := c.resolver.LookupNetIP(lookupCtx, "ip", host)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("resolve workspace host: %w", ctx.Err())
		}
		return nil, &NotAllowedError{Reason: "url host does not resolve", Err: err}
	}
	if len(addrs) == 0 {
		return nil, &NotAllowedError{Reason: "url host does not resolve", Err: errors.New("no addresses")}
	}
	return addrs, nil
}
