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
	told := r.announced[f.ID]
	if f.Stage.finished() {
		delete(r.announced, f.ID)
	} else {
		r.announced[f.ID] = true
	}
	if !told && r.cfg.OnFile != nil {
		r.cfg.OnFile(r.file(f))
	}
}

// taken forgets that a file was told of: it is gone from the folder.
func (r *run) taken(f record) {
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
