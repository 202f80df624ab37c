package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// maxMessageIDBytes bounds params.message.messageId, which is kept in an index;
// clients send UUIDs.
const maxMessageIDBytes = 512

// errNotObject says that a body is no JSON object at all; every other error of
// normaliseA2A names the member that is wrong.
var errNotObject = errors.New("body is not a JSON object")

// object is a JSON object whose members are left as they came unless they are
// replaced, so that numbers and unknown members survive.
type object = map[string]json.RawMessage

// a2aMessage is an A2A request in its stored form.
type a2aMessage struct {
	Envelope  json.RawMessage // the whole JSON-RPC request, compact
	Method    string
	MessageID string // "" where params.message is no object
}

// normaliseA2A brings a request into the one form that is stored and dispatched
// (contract 2.9). For the canvas it also notes that a person of unproven
// identity speaks, and gives a message/send without a conversation the
// workspace's own.
func normaliseA2A(body []byte, canvas bool, ws storage.WorkspaceID) (a2aMessage, error) {
	if !utf8.Valid(body) { // encoding/json lets bad bytes pass, PostgreSQL does not
		return a2aMessage{}, errNotObject
	}
	envelope, ok := asObject(body)
	if !ok {
		return a2aMessage{}, errNotObject
	}
	method, ok := asString(envelope["method"])
	if !ok || method == "" {
		return a2aMessage{}, errors.New("method must be a non-empty string")
	}
	if _, ok := envelope["jsonrpc"]; !ok {
		bare := envelope
		envelope = object{"jsonrpc": quote("2.0"), "id": quote(uuid.NewString()), "method": bare["method"]}
		if params, ok := bare["params"]; ok {
			envelope["params"] = params
		}
	}
	out := a2aMessage{Method: method}
	if params, ok := asObject(envelope["params"]); ok {
		var err error
		if out.MessageID, err = normaliseParams(params, method, canvas, ws); err != nil {
			return a2aMessage{}, err
		}
		envelope["params"] = mustCompact(params)
	}
	out.Envelope = mustCompact(envelope)
	return out, nil
}

func normaliseParams(params object, method string, canvas bool, ws storage.WorkspaceID) (messageID string, err error) {
	message, isMessage := asObject(params["message"])
	if isMessage {
		if messageID, err = normaliseMessage(message); err != nil {
			return "", err
		}
		if canvas && method == wire.MethodMessageSend && absent(message["contextId"]) {
			message["contextId"] = quote(ws.String())
		}
		params["message"] = mustCompact(message)
	}
	if canvas {
		metadata, ok := asObject(params["metadata"])
		if !ok {
			metadata = object{}
		}
		metadata["source"] = quote("canvas_user")
		metadata["user_identity_status"] = quote("UNAUTHENTICATED")
		params["metadata"] = mustCompact(metadata)
	}
	return messageID, nil
}

func normaliseMessage(message object) (messageID string, err error) {
	if absent(message["messageId"]) {
		message["messageId"] = quote(uuid.NewString())
	}
	messageID, ok := asString(message["messageId"])
	switch {
	case !ok:
		return "", errors.New("params.message.messageId must be a string")
	case messageID == "":
		messageID = uuid.NewString()
		message["messageId"] = quote(messageID)
	case len(messageID) > maxMessageIDBytes:
		return "", fmt.Errorf("params.message.messageId must not exceed %d bytes", maxMessageIDBytes)
	}
	if absent(message["role"]) {
		message["role"] = quote("user")
	}
	if absent(message["parts"]) {
		parts, err := partsOfContent(message["content"])
		if err != nil {
			return "", err
		}
		message["parts"] = parts
		delete(message, "content")
	}
	var parts []json.RawMessage
	if json.Unmarshal(message["parts"], &parts) != nil {
		return "", errors.New("params.message.parts must be a list")
	}
	for i := range parts {
		parts[i] = normalisePart(parts[i])
	}
	message["parts"] = mustCompact(parts)
	return messageID, nil
}

// partsOfContent turns the older member content into parts.
func partsOfContent(content json.RawMessage) (json.RawMessage, error) {
	if absent(content) {
		return nil, errors.New("params.message needs parts or content")
	}
	if text, ok := asString(content); ok {
		return mustCompact([]object{{"kind": quote("text"), "text": quote(text)}}), nil
	}
	if content[0] != '[' {
		return nil, errors.New("params.message.content must be a string or a list")
	}
	return content, nil
}

// normalisePart moves a part's discriminator from type, its name in older
// versions of the protocol, to kind. The old key never stays.
func normalisePart(raw json.RawMessage) json.RawMessage {
	part, ok := asObject(raw)
	if !ok {
		return raw
	}
	discriminator, ok := part["type"]
	if !ok {
		return raw
	}
	if absent(part["kind"]) {
		part["kind"] = discriminator
	}
	delete(part, "type")
	return mustCompact(part)
}

func asObject(raw json.RawMessage) (object, bool) {
	if raw = bytes.TrimLeft(raw, " \t\r\n"); len(raw) == 0 || raw[0] != '{' {
		return nil, false
	}
	var o object
	if json.Unmarshal(raw, &o) != nil {
		return nil, false
	}
	return o, true
}

func asString(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// absent says that a member is missing or null.
func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func quote(s string) json.RawMessage { return mustCompact(s) }
