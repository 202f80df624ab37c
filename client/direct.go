package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// ErrDirectUnavailable is the error of a direct upload that is not possible from
// here: the service has none, the object store cannot be reached, refuses, or
// fails for longer than the client has patience, or sending took longer than the
// reservation lives. Nothing was staged, so Upload may
// be tried instead.
var ErrDirectUnavailable = errors.New("no direct upload from here")

// DirectOptions are what a direct upload may be told. The zero value is fine.
type DirectOptions struct {
	// Progress is called, by one goroutine at a time, with the content bytes sent so
	// far; it falls back when a file, or a part of one, is sent again.
	Progress func(sent int64)
}

const (
	// directInFlight is how many files, or parts of files, are sent at a time.
	directInFlight = 4
	// commitAnswer bounds one attempt to commit: an object store that keeps no
	// checksums is read through.
	commitAnswer = 5 * time.Minute
)

// UploadDirect stages files like Upload, all of them or none, but sends their
// bytes to the object store instead of through the service. Sizes must be known,
// and Open is called at least twice: each file is read once for its SHA-256, to
// which the store then holds what is sent. Files above storage.DirectPartsFrom are
// sent in parts, several at a time, where service and store have them: Open is
// called for each, and what is an io.Seeker need not be read up to the part. The
// token goes to the service alone. Every step may be repeated, and is, for as long
// as the client has patience.
//
// ErrDirectUnavailable, ErrFileChanged, and the errors of Upload.
func (c *Client) UploadDirect(ctx context.Context, files []File, o DirectOptions) ([]wire.UploadedFile, error) {
	switch {
	case len(files) == 0:
		return nil, errors.New("upload: no files")
	case len(files) > storage.MaxFilesPerBatch:
		return nil, fmt.Errorf("upload: %d files, want at most %d in a request", len(files), storage.MaxFilesPerBatch)
	}
	reserved, err := c.reserveDirect(ctx, files)
	if err != nil {
		return nil, fmt.Errorf("reserve %d files: %w", len(files), err)
	}
	pieces, err := piecesOf(files, reserved.Files)
	if err != nil {
		return nil, err
	}
	puts := &directPuts{c: c, sent: &directProgress{report: o.Progress, pieces: make([]int64, len(pieces))}}
	group, sending := errgroup.WithContext(ctx)
	group.SetLimit(directInFlight)
	for i, p := range pieces {
		group.Go(func() error {
			if err := puts.put(sending, i, p); err != nil {
				return fmt.Errorf("send file %q: %w", p.file.Name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	committed, err := c.commitDirect(ctx, reserved)
	if err != nil {
		return nil, fmt.Errorf("commit %d files: %w", len(files), err)
	}
	return committed, nil
}

// reserveDirect asks for the requests that write the files. Asking again does no
// harm: what is not used comes to nothing.
func (c *Client) reserveDirect(ctx context.Context, files []File) (wire.DirectReply, error) {
	var in wire.DirectRequest
	for _, f := range files {
		asked, err := hashFile(ctx, f)
		if err != nil {
			return wire.DirectReply{}, fmt.Errorf("file %q: %w", f.Name, err)
		}
		in.Files = append(in.Files, asked)
	}
	var reply wire.DirectReply
	err := c.retry(ctx, "reserve", Temporary, func() error {
		reply = wire.DirectReply{}
		return c.call(ctx, answerTime, http.MethodPost, c.workspacePath("/chat/uploads/direct"), nil, in, &reply)
	})
	if lacksDirect(err) {
		return wire.DirectReply{}, fmt.Errorf("%w: %w", ErrDirectUnavailable, err)
	}
	if err == nil && len(reply.Files) != len(files) {
		err = fmt.Errorf("the answer lists %d", len(reply.Files))
	}
	return reply, err
}

// lacksDirect reports whether a service says that it has no direct upload, or
// does not know what that is.
func lacksDirect(err error) bool {
	var refusal *Error
	if !errors.As(err, &refusal) {
		return false
	}
	switch refusal.Status {
	case http.StatusNotFound:
		return refusal.Message == "not found" // the route; a workspace is called by name
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return refusal.Code == wire.CodeDirectUnavailable
}

// commitDirect is repeated like a call that reads: the service does it once.
func (c *Client) commitDirect(ctx context.Context, reserved wire.DirectReply) ([]wire.UploadedFile, error) {
	in := wire.DirectCommit{CommitToken: reserved.CommitToken}
	var reply wire.UploadReply
	attempts := 0
	err := c.retry(ctx, "commit", Temporary, func() error {
		reply = wire.UploadReply{}
		attempts++
		return c.call(ctx, commitAnswer, http.MethodPost, c.workspacePath("/chat/uploads/direct/commit"), nil, in, &reply)
	})
	var refusal *Error
	if errors.As(err, &refusal) && refusal.Code == wire.CodeDirectCommitted {
		// An attempt whose answer was lost did it, and the files were taken since.
		reply, err = wire.UploadReply{}, nil
		for _, f := range reserved.Files {
			reply.Files = append(reply.Files, f.UploadedFile)
		}
	}
	if attempts == 1 && cannotCommit(err) {
		// What an earlier attempt came to nobody would know.
		return nil, fmt.Errorf("%w: %w", ErrDirectUnavailable, err)
	}
	if err != nil {
		return nil, err
	}
	if len(reply.Files) != len(reserved.Files) {
		return nil, fmt.Errorf("the answer lists %d", len(reply.Files))
	}
	return reply.Files, nil
}

// cannotCommit reports whether the service says that the reservation has come to
// nothing: the transfer took too long, the workspace has turned to push mode, or
// another replica, with other keys, made it.
func cannotCommit(err error) bool {
	var refusal *Error
	if !errors.As(err, &refusal) {
		return false
	}
	switch refusal.Code {
	case wire.CodeDirectExpired, wire.CodeDirectToken, wire.CodeDirectUnavailable:
		return true
	}
	return false
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
