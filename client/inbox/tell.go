package inbox

import (
	"net/url"
	"path/filepath"
	"strings"
)

// file is a record as callers see it.
func (r *run) file(f record) File {
	file := File{ID: f.ID, URI: f.URI, MIMEType: f.MIME, Size: f.Size, Name: f.Name}
	if !f.Stage.here() {
		return file
	}
	got := f.received()
	file.Name, file.Size, file.SHA256 = f.As, got.Size, got.SHA256
	file.Path = filepath.Join(r.cfg.Dir, f.As)
	file.LocalURI = localURI(r.cfg.URIStyle, file.Path)
	return file
}

// localURI names a path.
func localURI(style URIStyle, path string) string {
	if style == StyleWorkspace {
		return string(StyleWorkspace) + path
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/folder
	}
	return (&url.URL{Scheme: "file", Path: path}).String()
}

func (r *run) tellFile(f File) {
	r.telling.Lock()
	defer r.telling.Unlock()
	if r.cfg.OnFile != nil {
		r.cfg.OnFile(f)
	}
}

// here tells of a file in the folder: once, whether its ack comes now or later.
func (r *run) here(f record) {
	r.telling.Lock()
	defer r.telling.Unlock()
	if r.announced[f.ID] {
		return
	}
	r.announced[f.ID] = true
	if r.cfg.OnFile != nil {
		r.cfg.OnFile(r.file(f))
	}
}

// forget forgets that a file was told of: nothing more comes of it, or it is gone
// from the folder.
func (r *run) forget(f record) {
	r.telling.Lock()
	defer r.telling.Unlock()
	delete(r.announced, f.ID)
}

func (r *run) progress(f record, done int64) {
	if r.cfg.OnProgress == nil {
		return
	}
	r.telling.Lock()
	defer r.telling.Unlock()
	r.cfg.OnProgress(r.file(f), done)
}
