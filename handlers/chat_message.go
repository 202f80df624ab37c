package handlers

import (
	"encoding/json"
	"strings"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// chatPart is a part of an A2A message, as far as a chat bubble shows it.
type chatPart struct {
	Text string         `json:"text"`
	File *wire.ChatFile `json:"file"`
}

// userSide reads what a person said from the request of a message/send.
func userSide(request json.RawMessage) (text string, files []wire.ChatFile) {
	var body struct {
		Params struct {
			Message struct {
				Parts json.RawMessage `json:"parts"`
			} `json:"message"`
		} `json:"params"`
	}
	if json.Unmarshal(request, &body) != nil {
		return "", nil
	}
	return readParts(body.Params.Message.Parts)
}

// agentSide reads what an agent said: {"result":TEXT,"parts":[...]} as notify
// stores it, or the JSON-RPC reply of a push-mode agent, whose result is a
// message or a task.
func agentSide(response json.RawMessage) (text string, files []wire.ChatFile) {
	var body struct {
		Result json.RawMessage `json:"result"`
		Parts  json.RawMessage `json:"parts"`
	}
	if json.Unmarshal(response, &body) != nil {
		return "", nil
	}
	if text, ok := asString(body.Result); ok {
		_, files = readParts(body.Parts)
		return text, files
	}
	var result struct {
		Parts   json.RawMessage `json:"parts"`
		Message struct {
			Parts json.RawMessage `json:"parts"`
		} `json:"message"`
		Status struct {
			Message struct {
				Parts json.RawMessage `json:"parts"`
			} `json:"message"`
		} `json:"status"`
		Artifacts []struct {
			Parts json.RawMessage `json:"parts"`
		} `json:"artifacts"`
	}
	if json.Unmarshal(body.Result, &result) != nil {
		return "", nil
	}
	candidates := []json.RawMessage{result.Parts, result.Message.Parts, result.Status.Message.Parts}
	for _, artifact := range result.Artifacts {
		candidates = append(candidates, artifact.Parts)
	}
	for _, parts := range candidates {
		if text, files = readParts(parts); text != "" || files != nil {
			return text, files
		}
	}
	return "", nil
}

// readParts joins the text parts by line breaks and lists the files. A part of
// an unexpected shape is passed over: the rest can still be shown.
func readParts(raw json.RawMessage) (text string, files []wire.ChatFile) {
	var parts []json.RawMessage
	if json.Unmarshal(raw, &parts) != nil {
		return "", nil
	}
	var lines []string
	for _, raw := range parts {
		var part chatPart
		if json.Unmarshal(raw, &part) != nil {
			continue
		}
		if part.File != nil && (part.File.URI != "" || part.File.Name != "") {
			files = append(files, *part.File)
		} else if part.Text != "" {
			lines = append(lines, part.Text)
		}
	}
	return strings.Join(lines, "\n"), files
}
