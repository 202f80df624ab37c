package handlers

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// ackBodyBytes is how much of an ack's body is looked at. A claim is about a
// hundred bytes; what is longer is none.
const ackBodyBytes = 4 << 10

// ackUpload records that the workspace has the file. Whether it is the
// workspace's, and whether it is what the workspace says it received, is checked
// before anything changes. That needs no lock: size and digest of a row never
// change, so the comparison holds for as long as there is anything to ack.
func (s *Server) ackUpload(w http.ResponseWriter, r *http.Request) error {
	ws, f, err := pathFile(r)
	if err != nil {
		return err
	}
	if s.cfg.Storage == nil {
		return errUploadGone
	}
	claim, err := readAckClaim(r)
	if err != nil {
		return err
	}
	rec, err := s.cfg.Storage.Stat(r.Context(), ws, f)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return s.notFound(r, ws, f, errUploadGone)
	case err != nil:
		return errStorage.because(err)
	case claim.contradicts(rec.Content):
		return s.refuseAck(r, rec, claim)
	}
	reply := wire.AckReply{Acked: true}
	switch err := s.cfg.Storage.Ack(r.Context(), ws, f); {
	case errors.Is(err, storage.ErrNotFound):
		reply.Raced = true // expired or swept since the look above
	case err != nil:
		return errStorage.because(err)
	}
	s.log.LogAttrs(r.Context(), slog.LevelInfo, "upload acknowledged",
		append(recordAttrs(rec), slog.Bool("raced", reply.Raced))...)
	return s.writeJSON(w, r, http.StatusOK, reply)
}

// refuseAck is the answer to a workspace that received something else, with what
// it should have received.
func (s *Server) refuseAck(r *http.Request, rec storage.Record, claim ackClaim) error {
	s.metrics.ackMismatches.Inc()
	attrs := recordAttrs(rec)
	if claim.size != nil {
		attrs = append(attrs, slog.Int64("received", *claim.size))
	}
	s.log.LogAttrs(r.Context(), slog.LevelWarn, "acknowledged content is not what was staged", attrs...)
	mismatch := errContentMismatch
	if !rec.Content.SHA256.IsZero() {
		mismatch = mismatch.with("sha256", rec.Content.SHA256.String())
	}
	return mismatch.with("size", rec.Content.Size)
}

// ackClaim is what a workspace says it received; nil is no word about it.
type ackClaim struct {
	digest *storage.Digest
	size   *int64
}

// readAckClaim reads the optional wire.AckRequest. Clients may send anything
// (contract 2.7): a body, or a member of it, that is not of its shape claims
// nothing. A body that breaks off is an error, because nobody knows what it
// would have claimed.
func readAckClaim(r *http.Request) (ackClaim, error) {
	body, err := readBody(r, ackBodyBytes)
	switch {
	case errors.Is(err, errBodyTooLarge):
		return ackClaim{}, nil
	case err != nil:
		return ackClaim{}, err
	}
	return parseAckClaim(body), nil
}

// parseAckClaim takes each member for itself, under exactly its name.
func parseAckClaim(body []byte) (claim ackClaim) {
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return ackClaim{}
	}
	var text string
	if json.Unmarshal(members["sha256"], &text) == nil {
		if d, err := storage.ParseDigest(text); err == nil {
			claim.digest = &d
		}
	}
	var size *int64
	if json.Unmarshal(members["size"], &size) == nil {
		claim.size = size
	}
	return claim
}

// contradicts compares what is known on both sides.
func (c ackClaim) contradicts(content storage.Content) bool {
	if c.size != nil && *c.size != content.Size {
		return true
	}
	return c.digest != nil && !content.SHA256.IsZero() && *c.digest != content.SHA256
}
