package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// stage sends one request's files, with --direct to the object store. Where that
// is not possible it says so on w, once, and the service takes them.
func (u *upload) stage(ctx context.Context, w io.Writer, files sources, o client.UploadOptions) ([]wire.UploadedFile, error) {
	if !u.Direct {
		return u.client.Upload(ctx, files.files(), o)
	}
	if name, ok := files.readOnce(); ok {
		_, _ = fmt.Fprintf(w, "%s goes through the service: it can be read only once\n", printable(name))
		return u.client.Upload(ctx, files.files(), o)
	}
	staged, err := u.client.UploadDirect(ctx, files.files(), client.DirectOptions{Progress: o.Progress})
	if errors.Is(err, client.ErrDirectUnavailable) {
		u.Direct = false
		_, _ = fmt.Fprintf(w, "sending through the service: %s\n", oneLine(err))
		return u.client.Upload(ctx, files.files(), o)
	}
	return staged, err
}

// readOnce names a source without an end that is known and a second reading.
func (s sources) readOnce() (name string, ok bool) {
	for _, src := range s {
		if src.file.Size < 0 {
			return src.path, true
		}
	}
	return "", false
}
