package handlers

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/molecule-ai/pendinguploads/storage"
)

const (
	// signedPath begins the service's own URLs of content.
	signedPath = "/signed-content/"

	// signedPurpose keeps their signatures apart from others of the same keys.
	signedPurpose = "content url"
)

// ownURL is a URL of the service under which signedContent serves the content,
// for as long as one of the object store would live.
func (s *Server) ownURL(r *http.Request, rec storage.Record) (storage.SignedURL, error) {
	now := time.Now()
	end := now.Add(s.cfg.Delivery.URLTTL)
	if rec.ExpiresAt.Before(end) {
		end = rec.ExpiresAt
	}
	if end.Sub(now) < MinURLTTL {
		return storage.SignedURL{}, storage.ErrNotFound
	}
	end = end.Truncate(time.Second)
	return storage.SignedURL{URL: s.baseURL(r) + s.signedRef(rec.WorkspaceID, rec.FileID, end), ExpiresAt: end}, nil
}

// signedRef is path and query of a signed URL.
func (s *Server) signedRef(ws storage.WorkspaceID, f storage.FileID, end time.Time) string {
	expires := end.Unix()
	query := url.Values{
		"expires":   {strconv.FormatInt(expires, 10)},
		"signature": {s.keys.Signature(signedPurpose, signedText(ws, f, expires))},
	}
	return signedPath + ws.String() + "/" + f.String() + "?" + query.Encode()
}

// signedText is what is signed. It binds no method: HEAD is part of GET.
func signedText(ws storage.WorkspaceID, f storage.FileID, expires int64) []byte {
	return fmt.Appendf(nil, "%s/%s %d", ws, f, expires)
}

// signedContent serves content to whoever has a URL of it that is signed and has
// not ended, as content serves it to the workspace. No token counts here.
func (s *Server) signedContent(w http.ResponseWriter, r *http.Request) error {
	ws, f, err := pathFile(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	expires, err := strconv.ParseInt(query.Get("expires"), 10, 64)
	if err != nil {
		return errURLSignature
	}
	if err := s.keys.Check(signedPurpose, signedText(ws, f, expires), query.Get("signature")); err != nil {
		return errURLSignature.because(err)
	}
	if !time.Now().Before(time.Unix(expires, 0)) {
		return errURLExpired
	}
	return s.proxyContent(w, r, ws, f, bySigned)
}
