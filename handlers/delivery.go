package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// Lives of URLs that read content. The longest is what S3 allows.
const (
	DefaultURLTTL = 5 * time.Minute
	MinURLTTL     = time.Second
	MaxURLTTL     = 7 * 24 * time.Hour
)

// Delivery says how content leaves. Whatever it says, who asks for the bytes gets
// them, and who asks for a URL gets one.
type Delivery struct {
	// Redirect sends those who say that they follow (?delivery=redirect) to the
	// object store. Otherwise they get the bytes, as they can take both.
	Redirect bool

	// RedirectAll sends everybody there who does not say what he wants. Released
	// pollers write a redirect's body to disk and ack it (contract 2.6).
	RedirectAll bool

	// URLTTL is how long URLs work, from MinURLTTL to MaxURLTTL, and never beyond
	// the row. Default DefaultURLTTL.
	URLTTL time.Duration
}

func (d Delivery) withDefaults() (Delivery, error) {
	if d.URLTTL == 0 {
		d.URLTTL = DefaultURLTTL
	}
	if d.URLTTL < MinURLTTL || d.URLTTL > MaxURLTTL {
		return d, fmt.Errorf("URLs that live %v, want %v to %v", d.URLTTL, MinURLTTL, MaxURLTTL)
	}
	if d.RedirectAll && !d.Redirect {
		return d, errors.New("RedirectAll without Redirect")
	}
	return d, nil
}

// delivery is a way in which content reaches its reader, and the label of its
// metric.
type delivery string

const (
	byProxy    delivery = "proxy"    // bytes in the reply
	byURL      delivery = "url"      // a URL in the reply
	byRedirect delivery = "redirect" // a URL as the reply's Location
	bySigned   delivery = "signed"   // bytes in the reply to a URL of the service
)

// deliveryOf is what the request asks for, or what is configured.
func (s *Server) deliveryOf(r *http.Request) (delivery, error) {
	asked := delivery(r.URL.Query().Get("delivery"))
	switch {
	case asked == "" && s.cfg.Delivery.RedirectAll, asked == byRedirect && s.cfg.Delivery.Redirect:
		if r.Method == http.MethodHead {
			return byProxy, nil // the URL would answer GET alone
		}
		return byRedirect, nil
	case asked == "", asked == byProxy, asked == byRedirect:
		return byProxy, nil
	case asked == byURL:
		return byURL, nil
	}
	return "", errBadDelivery
}

// contentURL answers with a URL: the object store's, or one of the service's own
// where the store has none, so that callers need to know only this one way.
func (s *Server) contentURL(w http.ResponseWriter, r *http.Request, ws storage.WorkspaceID, f storage.FileID) error {
	out, err := s.signContent(r, ws, f, r.Method != http.MethodHead)
	rec, signed := out.rec, out.url
	if errors.Is(err, storage.ErrNoURL) {
		signed, err = s.ownURL(r, rec)
	}
	if err != nil {
		return s.fetchFailed(r, ws, f, err)
	}
	reply := wire.ContentURL{
		URL: signed.URL, ExpiresAt: signed.ExpiresAt.UTC().Truncate(time.Second),
		Size: rec.Content.Size, Headers: make(map[string]string, len(signed.Header)),
	}
	if d := rec.Content.SHA256; !d.IsZero() {
		reply.SHA256 = d.String()
	}
	for name, values := range signed.Header {
		reply.Headers[name] = strings.Join(values, ", ")
	}
	w.Header().Set("Cache-Control", "no-store")
	if err := s.writeJSON(w, r, http.StatusOK, reply); err != nil {
		return err
	}
	switch {
	case r.Method == http.MethodHead:
	case out.stamped:
		s.countDelivery(byURL)
	default:
		s.delivered(r.Context(), rec, byURL)
	}
	return nil
}

// redirectContent sends the caller to the object store, or proxies where it has no
// URL that a redirect could carry, or the row is about to end. Range and preconditions are the store's to
// answer: of a reply that is no 2xx they are ignored (RFC 9110, 13.2.1).
func (s *Server) redirectContent(w http.ResponseWriter, r *http.Request, ws storage.WorkspaceID, f storage.FileID) error {
	// Whether there will be a redirect shows when the URL is there, so the row is
	// stamped afterwards.
	out, err := s.signContent(r, ws, f, false)
	signed := out.url
	switch {
	case errors.Is(err, storage.ErrNoURL), errors.Is(err, storage.ErrNotFound), err == nil && (len(signed.Header) > 0 || s.bearerFollows(r, signed.URL)):
		return s.proxyContent(w, r, ws, f, byProxy)
	case err != nil:
		return s.fetchFailed(r, ws, f, err)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", signed.URL)
	w.WriteHeader(http.StatusFound)
	s.delivered(r.Context(), out.rec, byRedirect)
	return nil
}

// handout is a file and the object store's URL of it.
type handout struct {
	rec     storage.Record
	url     storage.SignedURL
	stamped bool // the row says that it was fetched
}

// signContent finds the file and has the object store's URL of it made. With
// storage.ErrNoURL the record is there all the same.
//
// With stamp, the row is stamped where it is found, which saves a statement. It
// stays stamped where signing fails then: that needs no row and no store, only
// credentials, and the caller asks again.
func (s *Server) signContent(r *http.Request, ws storage.WorkspaceID, f storage.FileID, stamp bool) (handout, error) {
	if s.cfg.Storage == nil {
		return handout{}, storage.ErrNotFound
	}
	return persist(r.Context(), s.cfg.Timeouts.Open, func(ctx context.Context, deadline time.Time) (out handout, err error) {
		ctx, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		if out.rec, out.stamped, err = s.findFor(ctx, ws, f, stamp); err != nil {
			return out, err
		}
		out.url, err = out.rec.Content.URL(ctx, out.rec.URLOptions(s.cfg.Delivery.URLTTL))
		return out, err
	})
}

// findFor is Get, and stamps the row at the same time if that is wanted and can
// be. Where it cannot, because the row is locked or the database takes no writes,
// the file is handed out all the same (contract 2.6).
func (s *Server) findFor(ctx context.Context, ws storage.WorkspaceID, f storage.FileID, stamp bool) (rec storage.Record, stamped bool, err error) {
	if h, ok := s.cfg.Storage.(storage.Handouter); ok && stamp {
		stamping, cancel := context.WithTimeout(ctx, stampTimeout)
		defer cancel()
		rec, err = h.GetFetched(stamping, ws, f)
		if err == nil || errors.Is(err, storage.ErrNotFound) {
			return rec, err == nil, err
		}
	}
	rec, err = s.cfg.Storage.Get(ctx, ws, f)
	return rec, false, err
}

// bearerFollows reports whether clients that follow a redirect to target would
// send their token along: they do so on the same host, whatever the port, and
// below it. The first time is put on record, because the operator wanted it
// otherwise.
func (s *Server) bearerFollows(r *http.Request, target string) bool {
	to, err := url.Parse(target)
	if err != nil {
		return true
	}
	own := []string{(&url.URL{Host: r.Host}).Hostname()}
	if base, err := url.Parse(s.baseURL(r)); err == nil {
		own = append(own, base.Hostname())
	}
	for _, host := range own {
		if !sameSite(to.Hostname(), host) {
			continue
		}
		if !s.sameHost.Swap(true) {
			s.log.LogAttrs(r.Context(), slog.LevelWarn,
				"content is not redirected: the object store has the host name of the service or one below it, where clients would send their token",
				slog.String("object_store", to.Hostname()), slog.String("service", host))
		}
		return true
	}
	return false
}

// sameSite reports whether a host is another one or below it.
func sameSite(host, other string) bool {
	host, other = strings.ToLower(strings.TrimSuffix(host, ".")), strings.ToLower(strings.TrimSuffix(other, "."))
	return host == other || other != "" && strings.HasSuffix(host, "."+other)
}

// delivered counts content that has reached its reader, or the address of which
// has, and stamps the row. Failing to changes nothing for the client, which may
// have acknowledged already.
func (s *Server) delivered(ctx context.Context, rec storage.Record, how delivery) {
	s.countDelivery(how)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stampTimeout)
	defer cancel()
	err := s.cfg.Storage.MarkFetched(ctx, rec.WorkspaceID, rec.FileID)
	if err == nil {
		return
	}
	level := slog.LevelWarn
	if errors.Is(err, storage.ErrNotFound) {
		level = slog.LevelDebug
	}
	s.log.LogAttrs(ctx, level, "fetched_at not stamped", append(recordAttrs(rec), slog.Any("error", err))...)
}

func (s *Server) countDelivery(how delivery) {
	s.metrics.deliveries.WithLabelValues(string(how)).Inc()
}
