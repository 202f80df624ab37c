package main

import (
	"crypto/subtle"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads"
)

// platform serves staged uploads. It knows the storage by the interfaces alone, and
// not which constructor made it.
type platform struct {
	db      *sql.DB
	uploads pendinguploads.Storage       // reads and acks
	batches pendinguploads.TxBatchPutter // stages
	token   string                       // who may call; a real platform has one for each workspace
	log     *slog.Logger
}

func (p *platform) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /workspaces/{id}/chat/uploads", p.handle(p.upload))
	mux.Handle("GET /workspaces/{id}/activity", p.handle(p.activity))
	mux.Handle("GET /workspaces/{id}/pending-uploads/{file}/content", p.handle(p.content))
	mux.Handle("POST /workspaces/{id}/pending-uploads/{file}/ack", p.handle(p.ack))
	return mux
}

// refusal is an error with an answer of its own.
type refusal struct {
	status int
	body   map[string]any
}

func (r *refusal) Error() string { return fmt.Sprint(r.body["error"]) }

func refuse(status int, text string) *refusal {
	return &refusal{status, map[string]any{"error": text}}
}

// handle is the way of every request: who calls, for which workspace, and what an
// error answers.
func (p *platform) handle(serve func(http.ResponseWriter, *http.Request, uuid.UUID) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || p.token == "" || subtle.ConstantTimeCompare([]byte(token), []byte(p.token)) != 1 {
			answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid workspace auth token"})
			return
		}
		err := error(refuse(http.StatusBadRequest, "invalid workspace ID"))
		if workspaceID, bad := uuid.Parse(r.PathValue("id")); bad == nil {
			err = serve(w, r, workspaceID)
		}
		var refused *refusal
		switch {
		case err == nil:
		case errors.As(err, &refused):
			answer(w, refused.status, refused.body)
		case errors.Is(err, pendinguploads.ErrNotFound):
			answer(w, http.StatusNotFound, map[string]any{"error": "pending upload not found, expired, or already acked"})
		case errors.Is(err, pendinguploads.ErrTooLarge):
			answer(w, http.StatusRequestEntityTooLarge, map[string]any{"error": "one or more files exceed per-file cap"})
		default:
			p.log.LogAttrs(r.Context(), slog.LevelError, "request failed", slog.String("path", r.URL.Path), slog.Any("error", err))
			answer(w, http.StatusInternalServerError, map[string]any{"error": "internal error"})
		}
	})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // who has gone needs no answer
}
