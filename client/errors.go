package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// What an *Error may be, for errors.Is.
var (
	// ErrUnauthorized is a 401 or 403: the token is missing, wrong or revoked.
	ErrUnauthorized = errors.New("the service does not accept the token")
	// ErrNotFound is a 404: the file is acked, expired or not this workspace's, or
	// there is no such workspace.
	ErrNotFound = errors.New("not found")
	// ErrCursorGone is a 410 of the feed: the cursor's row was pruned or is not of
	// this feed.
	ErrCursorGone = errors.New("the feed does not know the cursor")
	// ErrContentMismatch is a 409 to an ack: what was received is not what was
	// staged.
	ErrContentMismatch = errors.New("content mismatch")
	// ErrTooLarge is a 413.
	ErrTooLarge = errors.New("too large")
	// ErrQuota is a 413 for what the workspace has not acked yet: the same files may
	// get in once it has. It is ErrTooLarge too.
	ErrQuota = errors.New("workspace quota exceeded")
	// ErrBusy is a 429 or 503: try again later.
	ErrBusy = errors.New("the service is busy")
)

// ErrCorrupt is the error of a fetch whose bytes do not have the digest that the
// service announced, more than once.
var ErrCorrupt = errors.New("the content does not have the announced SHA-256")

var (
	errNoAnswer      = errors.New("no answer in time")
	errSilent        = errors.New("no bytes in time")
	errReplyTooLarge = fmt.Errorf("it is larger than %d bytes", maxReply)
)

// Error is an answer that refuses.
type Error struct {
	Status     int           // of HTTP
	Message    string        // the answer's error text, or the beginning of its body
	Code       string        // the answer's code, where it has one
	RetryAfter time.Duration // what the answer asks to wait, or 0

	// Foreign says that the answer is not of the service's form: a proxy's, or that
	// of a network that wants somebody to log in. What it says of files, tokens and
	// cursors means nothing.
	Foreign bool
}

func (e *Error) Error() string {
	text := fmt.Sprintf("status %d", e.Status)
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// Is tells errors.Is what the status means. Of one that is not the service's, only
// the meanings that hold whoever said it do.
func (e *Error) Is(target error) bool {
	if e.Foreign && !errors.Is(target, ErrTooLarge) && !errors.Is(target, ErrBusy) {
		return false
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return target == ErrUnauthorized //nolint:errorlint // this is errors.Is
	case http.StatusNotFound:
		return target == ErrNotFound //nolint:errorlint // this is errors.Is
	case http.StatusGone:
		return target == ErrCursorGone //nolint:errorlint // this is errors.Is
	case http.StatusConflict:
		return target == ErrContentMismatch //nolint:errorlint // this is errors.Is
	case http.StatusRequestEntityTooLarge:
		return target == ErrTooLarge || target == ErrQuota && e.Code == wire.CodeQuotaExceeded //nolint:errorlint // this is errors.Is
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return target == ErrBusy //nolint:errorlint // this is errors.Is
	}
	return false
}

// Unwrap lets the retry wait for as long as the answer asks.
func (e *Error) Unwrap() error {
	if e.RetryAfter > 0 {
		return &backoff.RetryAfterError{Duration: e.RetryAfter}
	}
	return nil
}

// NotTheServiceError is an answer of 200 that the service does not give: the
// address is another program's, or a network's log-in page.
type NotTheServiceError struct {
	ContentType string
	Err         error
}

func (e *NotTheServiceError) Error() string {
	return fmt.Sprintf("the answer (%s) is not the service's: %v", e.ContentType, e.Err)
}

func (e *NotTheServiceError) Unwrap() error { return e.Err }

const (
	// shownBody is how much of a refusal that is no JSON is shown.
	shownBody = 200
	// longestRetryAfter caps what an answer may ask for.
	longestRetryAfter = 5 * time.Minute
)

// answerError makes an error of an answer that refuses.
func answerError(response *http.Response) error {
	e := &Error{Status: response.StatusCode, RetryAfter: retryAfter(response.Header)}
	data, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	var body wire.Error
	if err == nil && json.Unmarshal(data, &body) == nil && body.Error != "" {
		e.Message, e.Code = body.Error, body.Code
		if e.Code == wire.CodeQuotaExceeded {
			e.Message += quotaNumbers(data)
		}
		return e
	}
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(data), "?")), " ")
	if len(text) > shownBody {
		text = strings.ToValidUTF8(text[:shownBody], "") + "…"
	}
	e.Message, e.Foreign = text, true
	return e
}

// quotaNumbers says how full the workspace is.
func quotaNumbers(body []byte) string {
	var q wire.QuotaExceeded
	if err := json.Unmarshal(body, &q); err != nil {
		return ""
	}
	bytes, files := strconv.FormatInt(q.UsedBytes, 10), strconv.FormatInt(q.UsedFiles, 10)
	if q.MaxBytes > 0 {
		bytes += fmt.Sprintf(" of %d", q.MaxBytes)
	}
	if q.MaxFiles > 0 {
		files += fmt.Sprintf(" of %d", q.MaxFiles)
	}
	return fmt.Sprintf(" (%s bytes in %s files wait to be acked)", bytes, files)
}

// retryAfter reads the header's seconds, or its date: against the answer's own
// date, because the clocks of laptops are wrong.
func retryAfter(h http.Header) time.Duration {
	header := h.Get("Retry-After")
	if n, err := strconv.Atoi(header); err == nil {
		return time.Second * time.Duration(min(max(n, 0), int(longestRetryAfter/time.Second)))
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), longestRetryAfter)
}

// unsentError is a request that did not reach the service.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return e.err.Error() }
func (e *unsentError) Unwrap() error { return e.err }

// sendError tells a request that never left from one that got no answer.
func sendError(ctx context.Context, err error) error {
	var op *net.OpError
	var dns *net.DNSError
	if errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial" || errors.Is(err, syscall.ECONNREFUSED) {
		return &unsentError{orCause(ctx, err)}
	}
	return orCause(ctx, err)
}

// Temporary reports whether repeating a call that may be repeated can help: the
// network failed, or the service said so. The end of a context is not temporary.
func Temporary(err error) bool {
	var answer *Error
	var stranger *NotTheServiceError
	switch {
	case err == nil, errors.Is(err, errReplyTooLarge):
		return false
	case errors.As(err, &answer):
		if answer.Foreign && answer.Status != http.StatusRequestEntityTooLarge {
			return true // until the proxy finds the service again, or somebody logs in
		}
		switch answer.Status {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
			http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	case errors.As(err, &stranger):
		return true // a network's log-in page, until somebody logs in
	case errors.Is(err, errNoAnswer), errors.Is(err, errSilent):
		return true
	}
	return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// Unprocessed reports whether the service surely did not do what was asked, so
// that even a call that must not be done twice can be repeated: the request never
// reached it, or it said that it was busy.
func Unprocessed(err error) bool {
	var unsent *unsentError
	return errors.As(err, &unsent) || errors.Is(err, ErrBusy)
}
