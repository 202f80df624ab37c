package handlers

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/molecule-ai/pendinguploads/internal/signing"
	"github.com/molecule-ai/pendinguploads/storage"
)

// commitPurpose keeps commit tokens apart from whatever else the keys sign.
const commitPurpose = "commit of a direct upload"

// reservation is what a commit token says. It is all that is known of a direct
// upload before its commit: there is no table of them, so any replica with the
// same keys can commit, and nothing is left of what is not committed but objects.
type reservation struct {
	Workspace storage.WorkspaceID `json:"w"`
	Issued    int64               `json:"i"` // Unix time
	Expires   int64               `json:"e"`
	Files     []reservedFile      `json:"f"`
}

type reservedFile struct {
	ID       storage.FileID `json:"i"`
	Name     string         `json:"n"`
	MIMEType string         `json:"t,omitempty"`
	Size     int64          `json:"s"`
	SHA256   []byte         `json:"h"`
	Parts    *reservedParts `json:"p,omitempty"`
}

// reservedParts is what only the token knows of a file that is sent in parts: the
// upload, which says nothing to whoever cannot sign requests, and its parts.
type reservedParts struct {
	UploadID string   `json:"u"`
	Size     int64    `json:"s"`
	SHA256   [][]byte `json:"h"`
	Once     bool     `json:"o,omitempty"` // storage.DirectParts.IfNoneMatch
}

// commitToken signs a reservation.
func commitToken(keys *signing.Keyring, ws storage.WorkspaceID, puts []storage.DirectPut, issued, expires time.Time) (string, error) {
	r := reservation{Workspace: ws, Issued: issued.Unix(), Expires: expires.Unix()}
	for _, p := range puts {
		r.Files = append(r.Files, reservedFile{ID: p.FileID, Name: p.Filename, MIMEType: p.MIMEType, Size: p.Size, SHA256: p.SHA256[:], Parts: partsOf(p.Parts)})
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode commit token: %w", err)
	}
	return keys.Sign(commitPurpose, payload), nil
}

// openCommitToken reads a token of ours for ws, expired or not. It returns
// errDirectToken or errDirectForeign.
func openCommitToken(keys *signing.Keyring, token string, ws storage.WorkspaceID) (reservation, error) {
	payload, err := keys.Verify(commitPurpose, token)
	if err != nil {
		return reservation{}, errDirectToken.because(err)
	}
	var r reservation
	if err := json.Unmarshal(payload, &r); err != nil {
		return reservation{}, errDirectToken.because(err)
	}
	if r.Workspace != ws {
		return reservation{}, errDirectForeign.because(fmt.Errorf("it is of workspace %v", r.Workspace))
	}
	for _, f := range r.Files {
		digests := [][]byte{f.SHA256}
		if f.Parts != nil {
			digests = append(digests, f.Parts.SHA256...)
		}
		for _, d := range digests {
			if len(d) != len(storage.Digest{}) {
				return reservation{}, errDirectToken.because(errors.New("digest of another length"))
			}
		}
	}
	return r, nil
}

func partsOf(p *storage.DirectParts) *reservedParts {
	if p == nil {
		return nil
	}
	r := &reservedParts{UploadID: p.UploadID, Size: p.Size, Once: p.IfNoneMatch}
	for _, d := range p.SHA256 {
		r.SHA256 = append(r.SHA256, d[:])
	}
	return r
}

func (r *reservedParts) parts() *storage.DirectParts {
	if r == nil {
		return nil
	}
	p := &storage.DirectParts{UploadID: r.UploadID, Size: r.Size, IfNoneMatch: r.Once}
	for _, d := range r.SHA256 {
		p.SHA256 = append(p.SHA256, storage.Digest(d))
	}
	return p
}

func (r reservation) expired(now time.Time) bool { return now.Unix() >= r.Expires }

// files are the reserved files as the store knows them.
func (r reservation) files() []storage.DirectFile {
	files := make([]storage.DirectFile, len(r.Files))
	for i, f := range r.Files {
		files[i] = storage.DirectFile{FileID: f.ID, Filename: f.Name, MIMEType: f.MIMEType, Size: f.Size, SHA256: storage.Digest(f.SHA256), Parts: f.Parts.parts()}
	}
	return files
}
