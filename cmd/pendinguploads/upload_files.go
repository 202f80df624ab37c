package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// source is a file to upload and where it was found.
type source struct {
	path string
	file client.File
	once *stream // what can be read only once
}

type sources []source

func (s sources) files() []client.File {
	var files []client.File
	for _, src := range s {
		files = append(files, src.file)
	}
	return files
}

func closeAll(all sources) {
	for _, s := range all {
		if s.once != nil && s.once.close != nil {
			_ = s.once.close()
		}
	}
}

// total is the sum of sizes; negative where one is unknown.
func total(all sources) int64 {
	var n int64
	for _, s := range all {
		if s.file.Size < 0 {
			return -1
		}
		n += s.file.Size
	}
	return n
}

func title(all sources) string {
	if len(all) == 1 {
		return all[0].file.Name
	}
	return fmt.Sprintf("%d files", len(all))
}

// batch splits sources into requests.
func batch(all sources, limits wire.Limits) ([]sources, error) {
	requests, err := client.Batches(all.files(), limits)
	if err != nil {
		return nil, err
	}
	var batches []sources
	for _, r := range requests {
		batches, all = append(batches, all[:len(r)]), all[len(r):]
	}
	return batches, nil
}

// sources finds what to upload, in the order of the words, within folders in the
// order of names. Each file has been opened once, so that one that cannot be read
// stops the upload before it begins.
func (c *uploadCmd) sources(ctx context.Context, con console) (found sources, err error) {
	defer func() {
		if err != nil {
			closeAll(found)
			found = nil
		}
	}()
	if i := slices.Index(c.Files, "-"); i >= 0 && slices.Contains(c.Files[i+1:], "-") {
		return nil, usage(errors.New("standard input can be uploaded once"))
	}
	for _, name := range c.Files {
		if name == "-" {
			s, err := c.stream(ctx, "-", c.Name, con.in, nil)
			if err != nil {
				return found, err
			}
			found = append(found, s)
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return found, usage(err)
		}
		if !info.IsDir() {
			s, err := c.source(ctx, name, info)
			if err != nil {
				return found, err
			}
			found = append(found, s)
			continue
		}
		if !c.Recursive {
			return found, usage(fmt.Errorf("%s is a folder: its files are uploaded with -r", name))
		}
		err = fs.WalkDir(os.DirFS(name), ".", func(below string, d fs.DirEntry, err error) error {
			at := filepath.Join(name, filepath.FromSlash(below))
			switch {
			case err != nil:
				return local(err)
			case ctx.Err() != nil:
				return ctx.Err()
			case d.IsDir():
				return nil
			case !d.Type().IsRegular():
				con.warn("%s left out: it is no file of its own (%v)", printable(at), d.Type())
				return nil
			}
			info, err := d.Info()
			if err != nil {
				return local(err)
			}
			s, err := c.source(ctx, at, info)
			found = append(found, s)
			return err
		})
		if err != nil {
			return found, err
		}
	}
	if len(found) == 0 {
		return nil, usage(errors.New("there is no file to upload"))
	}
	return found, nil
}

// source describes a file. What has no length, such as a pipe, is a stream.
func (c *uploadCmd) source(ctx context.Context, name string, info fs.FileInfo) (source, error) {
	f, err := os.Open(name)
	if err != nil {
		return source{}, local(err)
	}
	if !info.Mode().IsRegular() {
		return c.stream(ctx, name, filepath.Base(name), f, f.Close)
	}
	defer func() { _ = f.Close() }()
	s := source{path: name, file: client.File{Name: filepath.Base(name), Size: info.Size(), MIMEType: c.mimeType(name)}}
	if s.file.MIMEType == "" {
		head := make([]byte, sniffed)
		n, err := io.ReadFull(f, head)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return source{}, local(fmt.Errorf("read file: %w", err))
		}
		s.file.MIMEType = sniff(head[:n])
	}
	s.file.Open = func() (io.ReadCloser, error) {
		f, err := os.Open(name)
		if err != nil {
			return nil, local(err)
		}
		return f, nil
	}
	return s, nil
}

// refused looks for what the service would refuse. Streams that are too large
// turn out to be while they are sent.
func (c *uploadCmd) refused(con console, all sources, limits wire.Limits) (kept sources, skipped int, err error) {
	var reasons []string
	for _, s := range all {
		reason := ""
		switch {
		case s.file.Size == 0:
			reason = fmt.Sprintf("%s: %v", printable(s.path), client.ErrEmptyFile)
		case limits.PerFileBytes > 0 && s.file.Size > limits.PerFileBytes:
			reason = fmt.Sprintf("%s: too large, it has %d bytes, the service takes %d", printable(s.path), s.file.Size, limits.PerFileBytes)
		default:
			if s.once != nil {
				s.once.limit = limits.PerFileBytes
			}
			kept = append(kept, s)
			continue
		}
		if c.SkipRefused {
			con.warn("left out: %s", reason)
		}
		reasons = append(reasons, reason)
	}
	if len(reasons) == 0 || c.SkipRefused && len(kept) > 0 {
		return kept, len(reasons), nil
	}
	const shown = 5
	text := strings.Join(reasons[:min(shown, len(reasons))], "; ")
	if more := len(reasons) - shown; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return nil, 0, &exitError{exitRefused, errors.New("nothing was sent: " + text)}
}

// mimeType is the type asked for, else the extension's, without parameters.
func (c *uploadCmd) mimeType(name string) string {
	if c.Type != "" {
		return c.Type
	}
	return bare(mime.TypeByExtension(path.Ext(filepath.Base(name))))
}

// sniffed is how many bytes a type is guessed from.
const sniffed = 512

func sniff(head []byte) string { return bare(http.DetectContentType(head)) }

func bare(mimeType string) string {
	t, _, _ := strings.Cut(mimeType, ";")
	return strings.TrimSpace(t)
}
