package handlers

import (
	"encoding/json"
	"strings"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// enrich adds what include=peer_info asks for (contract 2.5.5); base is the
// address of the service.
func enrich(row *wire.Activity, e metadata.Entry, base string) {
	row.Attachments = attachments(e.RequestBody)
	if row.SourceID == nil {
		return
	}
	row.PeerName, row.PeerRole = e.PeerName, e.PeerRole
	row.AgentCardURL = base + "/registry/discover/" + *row.SourceID
}

// fileFields are the fields of a file part or of a flat manifest. Anything that
// is not text counts as absent: bodies come from other programs.
type fileFields struct {
	Kind      text `json:"kind"`
	Type      text `json:"type"`
	URI       text `json:"uri"`
	FileID    text `json:"file_id"`
	Name      text `json:"name"`
	MIMEType  text `json:"mime_type"`
	MIMECamel text `json:"mimeType"`
}

// text is a JSON string, or nothing.
type text string

// UnmarshalJSON takes any value.
func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = text(s)
	}
	return nil
}

// attachments lists the files that a body mentions: the file parts of a chat
// message, else a flat manifest.
func attachments(body json.RawMessage) []wire.Attachment {
	if len(body) == 0 {
		return nil
	}
	if found := messageAttachments(body); len(found) > 0 {
		return found
	}
	var flat fileFields
	if json.Unmarshal(body, &flat) != nil || flat.URI == "" && flat.FileID == "" {
		return nil
	}
	mimeType := flat.MIMECamel
	if mimeType == "" {
		mimeType = flat.MIMEType
	}
	return project(nil, storage.AttachmentKind(string(mimeType)), flat.URI, mimeType, flat.Name)
}

// messageAttachments reads params.message.parts. It knows only the snake-case
// mime_type, as the clients that ask do.
func messageAttachments(body json.RawMessage) []wire.Attachment {
	var envelope struct {
		Params struct {
			Message struct {
				Parts []json.RawMessage `json:"parts"`
			} `json:"message"`
		} `json:"params"`
	}
	if json.Unmarshal(body, &envelope) != nil {
		return nil
	}
	var found []wire.Attachment
	for _, raw := range envelope.Params.Message.Parts {
		var part struct {
			fileFields
			File json.RawMessage `json:"file"`
		}
		if json.Unmarshal(raw, &part) != nil {
			continue
		}
		kind := part.Kind
		if kind == "" {
			kind = part.Type
		}
		switch kind {
		case "file", "image", "audio", "video":
		default:
			continue
		}
		file := part.fileFields
		var nested *fileFields
		if json.Unmarshal(part.File, &nested) == nil && nested != nil {
			file = *nested
		}
		found = project(found, string(kind), file.URI, file.MIMEType, file.Name)
	}
	return found
}

// project appends an attachment that names something the reader can use. A
// pending upload's URI is none: some runtimes show it to the agent as it is,
// and derive the rewritten one only where no attachment is given.
func project(list []wire.Attachment, kind string, uri, mimeType, name text) []wire.Attachment {
	if uri == "" && name == "" || strings.HasPrefix(string(uri), pendingScheme) {
		return list
	}
	return append(list, wire.Attachment{Kind: kind, URI: string(uri), MIMEType: string(mimeType), Name: string(name)})
}

// pendingScheme begins the URI of every pending upload.
const pendingScheme = "platform-pending:"
