package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// failure is an error with what goes on the wire for it: a status, the text of
// the "error" key, extra keys. The cause is for the log alone. Failures are
// values of the table below; with, because and retryAfter return changed
// copies.
type failure struct {
	status int
	text   string
	fields []field
	retry  time.Duration // Retry-After when positive
	cause  error
}

type field struct {
	key   string
	value any
}

func (f *failure) Error() string {
	if f.cause == nil {
		return fmt.Sprintf("%d %s", f.status, f.text)
	}
	return fmt.Sprintf("%d %s: %v", f.status, f.text, f.cause)
}

func (f *failure) Unwrap() error { return f.cause }

// Is compares with a row of the table, of which f may be a changed copy.
func (f *failure) Is(target error) bool {
	g, ok := target.(*failure)
	return ok && f.status == g.status && f.text == g.text
}

// with adds a key to the reply.
func (f *failure) with(key string, value any) *failure {
	g := *f
	g.fields = append(append([]field(nil), f.fields...), field{key, value})
	return &g
}

// because records what happened, for the log.
func (f *failure) because(err error) *failure {
	g := *f
	g.cause = err
	return &g
}

// retryAfter sets the Retry-After header, in whole seconds.
func (f *failure) retryAfter(d time.Duration) *failure {
	g := *f
	g.retry = d
	return &g
}

func fail(status int, text string) *failure { return &failure{status: status, text: text} }

// The table: every error of the wire contract, its status and its text.
var (
	errNotFound         = fail(http.StatusNotFound, "not found")
	errMethodNotAllowed = fail(http.StatusMethodNotAllowed, "method not allowed")
	errInternal         = fail(http.StatusInternalServerError, "internal error")
	errRateLimited      = fail(http.StatusTooManyRequests, "rate limit exceeded")
	errBodyTooLarge     = fail(http.StatusRequestEntityTooLarge, "request body too large")
	errBodyUnreadable   = fail(http.StatusBadRequest, "could not read request body")
	errBodyTooSlow      = fail(http.StatusRequestTimeout, "request body too slow")

	// Guards, contract 2.1.
	errMissingWorkspaceToken = fail(http.StatusUnauthorized, "missing workspace auth token")
	errInvalidWorkspaceToken = fail(http.StatusUnauthorized, "invalid workspace auth token")
	errMissingAdminToken     = fail(http.StatusUnauthorized, "admin auth required")
	errInvalidAdminToken     = fail(http.StatusUnauthorized, "invalid admin auth token")
	errPlatformUnavailable   = fail(http.StatusServiceUnavailable, "platform datastore unavailable — retry shortly").
					with("code", "platform_unavailable").retryAfter(5 * time.Second)

	// Ids.
	errInvalidWorkspaceID = fail(http.StatusBadRequest, "invalid workspace ID")
	errInvalidFileID      = fail(http.StatusBadRequest, "invalid file_id")
	errWorkspaceNotFound  = fail(http.StatusNotFound, "workspace not found")

	// Upload, contract 2.4 and annex.
	errModeLookup          = fail(http.StatusInternalServerError, "delivery_mode lookup failed")
	errMalformedMultipart  = fail(http.StatusBadRequest, "malformed multipart body")
	errMalformedPartHeader = fail(http.StatusBadRequest, "malformed part header")
	errNoFiles             = fail(http.StatusBadRequest, "no files field in request")
	errTooManyFiles        = fail(http.StatusBadRequest, fmt.Sprintf("too many files (limit %d)", storage.MaxFilesPerBatch))
	errFileTooLarge        = fail(http.StatusRequestEntityTooLarge, "file exceeds per-file cap")
	errFilesTooLarge       = fail(http.StatusRequestEntityTooLarge, "one or more files exceed per-file cap")
	errRequestTooLarge     = fail(http.StatusRequestEntityTooLarge, "request exceeds cap")
	errFileEmpty           = fail(http.StatusBadRequest, "file is empty")
	errStage               = fail(http.StatusInternalServerError, "could not stage files")
	errUploadBusy          = fail(http.StatusServiceUnavailable, "upload capacity exhausted, retry shortly").retryAfter(5 * time.Second)
	errQuota               = fail(http.StatusRequestEntityTooLarge, storage.ErrQuota.Error()).with("code", wire.CodeQuotaExceeded)

	// Direct upload.
	errNoDirect = fail(http.StatusUnprocessableEntity, "direct upload is not available here: use POST /workspaces/{id}/chat/uploads").
			with("code", wire.CodeDirectUnavailable)
	errDirectName      = fail(http.StatusBadRequest, "file name is required")
	errDirectDigest    = fail(http.StatusBadRequest, "sha256 must be 64 hex digits or the base64 of 32 bytes")
	errDirectParts     = fail(http.StatusBadRequest, "part_sha256 must be the SHA-256 of each part of part_size bytes, 5242880 or more")
	errDirectToken     = fail(http.StatusBadRequest, "invalid commit_token").with("code", wire.CodeDirectToken)
	errDirectForeign   = fail(http.StatusForbidden, "commit_token belongs to another workspace")
	errDirectExpired   = fail(http.StatusGone, "commit_token has expired: start the upload again").with("code", wire.CodeDirectExpired)
	errDirectCommitted = fail(http.StatusGone, "files were committed before, and some are acked or expired and gone").
				with("code", wire.CodeDirectCommitted)
	errNotUploaded = fail(http.StatusConflict, "file not uploaded")

	// Push, contract 2.4.2.
	errLookupTimeout     = fail(http.StatusServiceUnavailable, "workspace lookup timed out, retry").retryAfter(5 * time.Second)
	errURLNotRegistered  = fail(http.StatusServiceUnavailable, "workspace url not registered yet").retryAfter(5 * time.Second)
	errURLNotAllowed     = fail(http.StatusBadRequest, "workspace URL not allowed")
	errNotEnrolled       = fail(http.StatusServiceUnavailable, "workspace not yet enrolled in v2 upload (RFC #2312)")
	errNotEnrolledRead   = fail(http.StatusServiceUnavailable, "workspace not yet enrolled in v2 download (RFC #2312)")
	errReregistering     = fail(http.StatusServiceUnavailable, "workspace re-registering — please retry in 30 seconds").with("retry_after_seconds", 30).retryAfter(30 * time.Second)
	errUnreachable       = fail(http.StatusBadGateway, "workspace unreachable")
	errUploadNeedsPush   = fail(http.StatusUnprocessableEntity, "workspace has no callback URL — chat upload requires push-mode + public URL")
	errDownloadNeedsPush = fail(http.StatusUnprocessableEntity, "workspace has no callback URL — chat download requires push-mode + public URL")
	errPathRequired      = fail(http.StatusBadRequest, "path query required")
	errPathNotAbsolute   = fail(http.StatusBadRequest, "path must be absolute")
	errPathRoot          = fail(http.StatusBadRequest, "path must be under /configs, /workspace, /home, or /plugins")
	errPathInvalid       = fail(http.StatusBadRequest, "invalid path")

	// Content and ack, contract 2.6 and 2.7.
	errUploadGone         = fail(http.StatusNotFound, "pending upload not found, expired, or already acked")
	errUploadGoneReadable = fail(http.StatusNotFound, "pending upload not found or expired")
	errUploadForeign      = fail(http.StatusNotFound, "pending upload not found")
	errContentMismatch    = fail(http.StatusConflict, "content mismatch")
	errPreconditionFailed = fail(http.StatusPreconditionFailed, "content does not match If-Match")
	errRangeUnsatisfiable = fail(http.StatusRequestedRangeNotSatisfiable, "range not satisfiable")
	errStorage            = fail(http.StatusInternalServerError, "storage error")
	errBadDelivery        = fail(http.StatusBadRequest, "delivery must be url, redirect or proxy")
	errURLSignature       = fail(http.StatusForbidden, "invalid or missing signature of the URL")
	errURLExpired         = fail(http.StatusForbidden, "the URL has expired")

	// Activity, contract 2.5, 2.8 and 2.16.
	errBadSource        = fail(http.StatusBadRequest, "source must be 'canvas' or 'agent'")
	errBadPeerID        = fail(http.StatusBadRequest, "peer_id must be a UUID")
	errBadSince         = fail(http.StatusBadRequest, "since_secs must be a positive integer")
	errBadBefore        = fail(http.StatusBadRequest, "before_ts must be an RFC3339 time")
	errBadWait          = fail(http.StatusBadRequest, "wait must be a duration such as 25s, or a number of seconds")
	errCursorGone       = fail(http.StatusGone, "since_id cursor not found (row may have been pruned or belongs to a different workspace); omit since_id to reset")
	errQuery            = fail(http.StatusInternalServerError, "query failed")
	errAckedSeqRequired = fail(http.StatusBadRequest, "acked_seq is required")
	errAckedSeqNegative = fail(http.StatusBadRequest, "acked_seq must be >= 0")
	errRecordAck        = fail(http.StatusInternalServerError, "failed to record ack")
	errBadActivityType  = fail(http.StatusBadRequest, "activity_type must be one of a2a_send, a2a_receive, task_update, agent_log, skill_promotion, memory_write, error")
	errBadTargetID      = fail(http.StatusBadRequest, "target_id must be a UUID")
	errForeignSource    = fail(http.StatusForbidden, "source_id must match authenticated workspace")

	// Registry, contract 2.2, 2.3 and 2.19.
	errInvalidBody       = fail(http.StatusBadRequest, "invalid request body")
	errBadMode           = fail(http.StatusBadRequest, "delivery_mode must be 'push' or 'poll'")
	errBadKind           = fail(http.StatusBadRequest, "kind must be 'workspace' or 'platform'")
	errURLRequired       = fail(http.StatusBadRequest, "url is required for push-mode workspaces")
	errCardURLNotAllowed = fail(http.StatusBadRequest, "workspace agent_card URL not allowed")
	errRegister          = fail(http.StatusInternalServerError, "registration failed")
	errHeartbeat         = fail(http.StatusInternalServerError, "failed to update")
	errPlatformKind      = fail(http.StatusForbidden, "kind 'platform' cannot be claimed by registering")
	errWorkspaceHeader   = fail(http.StatusBadRequest, "X-Workspace-ID header must be a workspace ID")

	// A2A and notify, contract 2.9 and 2.15.
	errMissingCallerToken = fail(http.StatusUnauthorized, "missing caller auth token")
	errInvalidCallerToken = fail(http.StatusUnauthorized, "invalid caller auth token")
	errCallerMismatch     = fail(http.StatusUnauthorized, "caller ID does not match workspace auth token")
	errCallerID           = fail(http.StatusForbidden, "invalid caller ID")
	errHierarchy          = fail(http.StatusForbidden, "access denied: workspaces cannot communicate per hierarchy rules")
	errInvalidJSON        = fail(http.StatusBadRequest, "invalid JSON")
	errInvalidA2A         = fail(http.StatusBadRequest, "invalid A2A body")
	errNotRoutable        = fail(http.StatusBadGateway, "workspace URL is not publicly routable")
	errMessageRequired    = fail(http.StatusBadRequest, "message is required")
	errTalkDisabled       = fail(http.StatusForbidden, "talk_to_user_disabled").
				with("hint", "this workspace may not write to its user; an administrator can set talk_to_user_enabled")
	errCallerNotUUID   = fail(http.StatusBadRequest, "X-Workspace-ID must be a workspace ID")
	errTargetLookup    = fail(http.StatusServiceUnavailable, "workspace delivery_mode lookup failed, retry").retryAfter(5 * time.Second)
	errRecordMessage   = fail(http.StatusServiceUnavailable, "message could not be recorded, retry").retryAfter(5 * time.Second)
	errNoURL           = fail(http.StatusServiceUnavailable, "workspace has no URL").retryAfter(5 * time.Second)
	errReplyTooLarge   = fail(http.StatusBadGateway, "workspace reply too large")
	errReplyRedirect   = fail(http.StatusBadGateway, "workspace answered with a redirect")
	errUnstorable      = fail(http.StatusBadRequest, "body holds text that cannot be stored, such as a NUL character")
	errUpgradeRequired = fail(http.StatusUpgradeRequired, "websocket upgrade required")
	errA2ABusy         = fail(http.StatusServiceUnavailable, "message capacity exhausted, retry shortly").retryAfter(5 * time.Second)

	// Workspaces, contract 2.10 to 2.12 and 2.17.
	errWorkspaceRemoved   = fail(http.StatusGone, "workspace removed")
	errInfrastructureAuth = fail(http.StatusForbidden, "only an administrator may change this").with("code", "WORKSPACE_INFRASTRUCTURE_AUTH_REQUIRED")
	errReparentAlone      = fail(http.StatusBadRequest, "parent_id cannot be changed together with other fields").with("code", "WORKSPACE_REPARENT_NOT_ALONE")
	errParentID           = fail(http.StatusBadRequest, "parent_id must be a workspace ID or null")
	errReparentSelf       = fail(http.StatusBadRequest, "a workspace cannot be its own parent")
	errReparentNoParent   = fail(http.StatusNotFound, "parent workspace not found")
	errReparentRoot       = fail(http.StatusUnprocessableEntity, "a child workspace cannot become a root")
	errReparentCycle      = fail(http.StatusConflict, "the parent is a descendant of the workspace")
	errParentNotFound     = fail(http.StatusBadRequest, "parent workspace not found")
	errNameTaken          = fail(http.StatusConflict, "a workspace of that name exists here")
	errNameRequired       = fail(http.StatusBadRequest, "name is required")
	errConfirmName        = fail(http.StatusBadRequest, "destructive_action_requires_confirmation")
	errTokenWorkspaceID   = fail(http.StatusBadRequest, "invalid workspace id")
	errTokenLimit         = fail(http.StatusTooManyRequests, fmt.Sprintf("too many live tokens (limit %d)", metadata.MaxLiveTokens))
)

// unstorable is the reply to what the database does not take: with what is wrong,
// where that is known, else otherwise.
func unstorable(err error, otherwise *failure) *failure {
	var bound *metadata.JSONError
	if errors.As(err, &bound) {
		return fail(http.StatusBadRequest, "body cannot be stored: "+bound.Reason).because(err)
	}
	return otherwise.because(err)
}

// failureOf finds the table's row for an error: the row that the handler chose,
// else the row of a sentinel that means the same wherever it comes from, else
// "internal error".
func failureOf(err error) *failure {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, storage.ErrWorkspaceNotFound):
		return errWorkspaceNotFound.because(err)
	case errors.Is(err, storage.ErrNotFound):
		return errUploadGone.because(err)
	case errors.Is(err, storage.ErrBusy):
		return errUploadBusy.because(err)
	case errors.Is(err, storage.ErrQuota):
		return errQuota.because(err)
	case errors.Is(err, metadata.ErrCursorNotFound):
		return errCursorGone.because(err)
	case errors.Is(err, metadata.ErrWorkspaceRemoved):
		return errWorkspaceRemoved.because(err)
	case errors.Is(err, metadata.ErrTokenLimit):
		return errTokenLimit.because(err)
	}
	return errInternal.because(err)
}
