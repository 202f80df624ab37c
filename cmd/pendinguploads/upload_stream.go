package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/molecule-ai/pendinguploads/client"
)

// streamHead is how much of a stream is read ahead: one that ends within it has
// a known length and can be sent again.
const streamHead = 64 << 10

// stream is content that can be read once.
type stream struct {
	name  string
	head  []byte
	rest  io.Reader // behind the head; nil: there is none
	close func() error
	limit int64 // bytes the service takes; 0: unknown
	used  bool
}

// stream describes content without a length; it waits for its first bytes.
func (c *uploadCmd) stream(ctx context.Context, path, name string, r io.Reader, closer func() error) (source, error) {
	s := &stream{name: name, rest: r, close: closer}
	type result struct {
		head []byte
		err  error
	}
	read := make(chan result, 1)
	go func() {
		head := make([]byte, streamHead)
		n, err := io.ReadFull(r, head)
		read <- result{head[:n], err}
	}()
	var got result
	select {
	case got = <-read:
	case <-ctx.Done():
		// The read goes on until the process ends: it cannot be interrupted.
		return source{}, ctx.Err()
	}
	s.head = got.head
	src := source{path: path, once: s, file: client.File{Name: name, Size: -1, MIMEType: c.mimeType(name), Open: s.open}}
	switch {
	case errors.Is(got.err, io.EOF), errors.Is(got.err, io.ErrUnexpectedEOF):
		s.rest, src.file.Size = nil, int64(len(s.head))
	case got.err != nil:
		return src, local(fmt.Errorf("read %s: %w", path, got.err))
	}
	if src.file.MIMEType == "" {
		src.file.MIMEType = sniff(s.head[:min(sniffed, len(s.head))])
	}
	return src, nil
}

func (s *stream) open() (io.ReadCloser, error) {
	if s.rest == nil {
		return io.NopCloser(bytes.NewReader(s.head)), nil
	}
	if s.used {
		return nil, local(fmt.Errorf("%s cannot be read a second time: send it as a file", s.name))
	}
	return io.NopCloser(&streamReader{s: s, head: bytes.NewReader(s.head)}), nil
}

// streamReader reads a stream and fails once it is larger than the service takes.
type streamReader struct {
	s    *stream
	head *bytes.Reader
	n    int64
}

func (r *streamReader) Read(p []byte) (n int, err error) {
	if r.head.Len() > 0 {
		n, err = r.head.Read(p)
	} else {
		r.s.used = true
		if n, err = r.s.rest.Read(p); err != nil && !errors.Is(err, io.EOF) {
			return n, local(err)
		}
	}
	if r.n += int64(n); r.s.limit > 0 && r.n > r.s.limit {
		return 0, fmt.Errorf("%s: %w: it has more than %d bytes", r.s.name, client.ErrTooLarge, r.s.limit)
	}
	return n, err
}
