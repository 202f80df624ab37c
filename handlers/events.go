package handlers

import (
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/metadata"
)

// maxEventBodyBytes is the size up to which a body travels inside an event.
// Bodies may be megabytes, and events wait in memory for each consumer.
const maxEventBodyBytes = 64 << 10

// eventsOf is what a committed entry means to a canvas: the entry itself, and
// before it the chat message that it holds, if any.
func eventsOf(e metadata.Entry) []wire.Event {
	var events []wire.Event
	add := func(name string, payload any) {
		events = append(events, wire.Event{
			Event:       name,
			WorkspaceID: e.WorkspaceID.String(),
			Timestamp:   e.CreatedAt.UTC().Format(wire.TimeFormat),
			Payload:     payload,
		})
	}
	if e.ActivityType == wire.TypeA2AReceive && e.SourceID == nil && e.Method != nil {
		switch *e.Method {
		case wire.MethodNotify:
			text, files := agentSide(e.ResponseBody)
			add(wire.EventAgentMessage, wire.EventMessage{ID: e.ID.String(), Message: text, Attachments: files})
		case wire.MethodMessageSend:
			text, files := userSide(e.RequestBody)
			add(wire.EventUserMessage, wire.EventMessage{
				ID: e.ID.String(), Message: text, MessageID: e.MessageID, Attachments: files,
			})
		}
	}
	logged := wire.EventActivity{
		ID:           e.ID.String(),
		Seq:          e.Seq,
		ActivityType: e.ActivityType,
		SourceID:     optionalID(e.SourceID),
		TargetID:     optionalID(e.TargetID),
		Method:       e.Method,
		Summary:      e.Summary,
		Status:       e.Status,
		ErrorDetail:  e.ErrorDetail,
		DurationMS:   e.DurationMS,
	}
	if len(e.RequestBody) <= maxEventBodyBytes {
		logged.RequestBody = e.RequestBody
	}
	if len(e.ResponseBody) <= maxEventBodyBytes {
		logged.ResponseBody = e.ResponseBody
	}
	add(wire.EventActivityLogged, logged)
	return events
}
