package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
)

const (
	// certificateWarning leaves two weeks to renew a certificate.
	certificateWarning = 14 * 24 * time.Hour

	// dateResolution is how exact a Date is: it has whole seconds, and some servers
	// renew theirs once a second.
	dateResolution = 2 * time.Second
)

// answer is what an answer's envelope says, whatever the answer is.
type answer struct {
	ahead    time.Duration // of its clock, by its Date
	blurred  time.Duration // by which ahead may be wrong
	dated    bool
	software string // by its Server
	expires  time.Time
	err      error
}

// ask sends a GET and reads nothing but the envelope.
func (d *Doctor) ask(ctx context.Context, target string) answer {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return answer{err: withoutURL(err)}
	}
	before := time.Now()
	resp, err := d.client.Do(req)
	if err != nil {
		return answer{err: withoutURL(err)}
	}
	after := time.Now()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // for the connection's sake
	_ = resp.Body.Close()
	a := answer{software: resp.Header.Get("Server"), blurred: dateResolution + after.Sub(before)/2}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		a.dated, a.ahead = true, date.Add(time.Second/2).Sub(middle(before, after))
	}
	if resp.TLS != nil {
		for _, c := range resp.TLS.PeerCertificates {
			if a.expires.IsZero() || c.NotAfter.Before(a.expires) {
				a.expires = c.NotAfter
			}
		}
	}
	return a
}

// withoutURL takes the URL out of net/http's errors: a presigned one is a secret.
func withoutURL(err error) error {
	var wrapped *url.Error
	for errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return err
}

// question is a URL that the endpoint answers, one way or the other.
func (d *Doctor) question(ctx context.Context, store *s3blob.Store, endpoint string) (string, error) {
	r, err := store.PresignGet(ctx, d.dir+"absent", blob.PresignGetOptions{TTL: time.Minute})
	if err != nil && endpoint != "" {
		return endpoint, nil // credentials are another check's
	}
	return r.URL, err
}

func (d *Doctor) checkTLS(ctx context.Context) verdict {
	if d.opened = d.open(ctx); d.opened != nil {
		d.first.err = d.opened
		return elsewhere(nameBucket)
	}
	var v verdict
	v, d.first = d.secured(ctx, d.inside, "S3_ENDPOINT", d.cfg.Settings.S3Endpoint, nameBucket)
	return v
}

func (d *Doctor) checkPublicTLS(ctx context.Context) verdict {
	endpoint := d.cfg.Settings.S3PublicEndpoint
	if endpoint == "" {
		return ok("S3_PUBLIC_ENDPOINT is unset: presigned URLs lead to S3_ENDPOINT")
	}
	v, _ := d.secured(ctx, d.store, "S3_PUBLIC_ENDPOINT", endpoint, namePublicPresign)
	return v
}

// elsewhere leaves what is wrong to another check, which is to come.
func elsewhere(name string) verdict {
	v := skip("not examined, see %s", name)
	v.usable = true
	return v
}

// secured judges how an endpoint is protected on the way. Where it cannot be
// reached, the check called reach tells why.
func (d *Doctor) secured(ctx context.Context, store *s3blob.Store, setting, endpoint, reach string) (verdict, answer) {
	target, err := d.question(ctx, store, endpoint)
	if err != nil {
		return elsewhere(reach), answer{err: err}
	}
	u, err := url.Parse(target)
	if err != nil {
		return elsewhere(reach), answer{err: withoutURL(err)}
	}
	a := d.ask(ctx, target)
	var certificate *tls.CertificateVerificationError
	switch {
	case u.Scheme == "http" && loopback(u.Hostname()):
		return ok("http, and %s is this machine", u.Host), a
	case u.Scheme == "http":
		return warn("https in "+setting+", unless the network between is one that nobody else reads", "content and presigned URLs go to %s in the clear", u.Host), a
	case errors.As(a.err, &certificate):
		return fail("renew the certificate, or name its authority in AWS_CA_BUNDLE", "the certificate of %s: %v", u.Host, certificate.Err), a
	case a.err != nil:
		return elsewhere(reach), a
	}
	left := time.Until(a.expires)
	expiry := fmt.Sprintf("the certificate of %s is valid until %s", u.Host, a.expires.UTC().Format(time.DateOnly))
	if left < certificateWarning {
		return warn("renew it", "%s", expiry), a
	}
	return ok("%s", expiry), a
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

func (d *Doctor) checkClock(context.Context) verdict {
	switch {
	case d.first.err != nil:
		return skip("not examined, see %s", nameBucket)
	case !d.first.dated:
		return skip("the store's answers have no Date")
	}
	v := clocks("the store's", d.first.ahead, d.first.blurred, clockWarning)
	if v.status != OK {
		v.fix += "; S3 refuses requests beyond 15 minutes, and presigned URLs end early or late"
	}
	return v
}
