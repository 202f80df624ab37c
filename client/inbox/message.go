package inbox

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// pendingScheme is what URIs of staged files begin with.
const pendingScheme = "platform-pending:"

// message is a row as the handler gets it.
func (r *run) message(row wire.Activity) Message {
	m := Message{Text: messageText(row)}
	cited := map[string]bool{}
	cite := func(uri string) (string, bool) {
		var f record
		var known bool
		r.journal.view(func(s *state) { f, known = s.byURI(uri) })
		if !known && !strings.HasPrefix(uri, pendingScheme) {
			return "", false
		}
		file := File{URI: uri}
		if known {
			file = r.file(f)
		}
		if !cited[uri] {
			cited[uri] = true
			m.Files = append(m.Files, file)
		}
		return file.LocalURI, file.LocalURI != ""
	}
	row.RequestBody = rewrite(row.RequestBody, cite)
	row.ResponseBody = rewrite(row.ResponseBody, cite)
	row.Attachments = slices.Clone(row.Attachments)
	for i := range row.Attachments {
		if uri, ok := cite(row.Attachments[i].URI); ok {
			row.Attachments[i].URI = uri
		}
	}
	m.Activity = row
	return m
}

// messageParts are the places that hold a message's parts (contract 7.1).
type messageParts struct {
	Parts  []part `json:"parts"`
	Params struct {
		Parts   []part `json:"parts"`
		Message struct {
			Parts []part `json:"parts"`
		} `json:"message"`
	} `json:"params"`
}

type part struct {
	Kind string `json:"kind"`
	Type string `json:"type"`
	Text string `json:"text"`
}

// messageText joins the text parts; a row without parts has its summary.
func messageText(row wire.Activity) string {
	var body messageParts
	// What has another shape has no parts.
	_ = json.Unmarshal(row.RequestBody, &body)
	parts := slices.Concat(body.Params.Message.Parts, body.Params.Parts, body.Parts)
	if len(parts) == 0 {
		if row.Summary == nil {
			return ""
		}
		return *row.Summary
	}
	var texts []string
	for _, p := range parts {
		if p.Text != "" && (p.Kind == "text" || p.Kind == "" && (p.Type == "text" || p.Type == "")) {
			texts = append(texts, p.Text)
		}
	}
	return strings.Join(texts, "\n")
}
