package handlers

import "net/http"

// guardKind says who may call a route.
type guardKind int

const (
	guardPublic    guardKind = iota // anybody
	guardWorkspace                  // a live token of the workspace {id}, or the admin token
	guardAdmin                      // the admin token
	guardOwn                        // the handler applies the rules of its own
)

// route is one line of the table.
type route struct {
	method  string
	pattern string // net/http ServeMux form
	guard   guardKind
	exempt  bool // from the rate limit
	handle  handlerFunc
}

// handlerFunc answers a request or returns the error to answer with; after it
// has written anything it must return nil.
type handlerFunc func(w http.ResponseWriter, r *http.Request) error

// routes is every route of the service.
func (s *Server) routes() []route {
	return []route{
		{"GET", "/health", guardPublic, true, s.health},
		{"HEAD", "/health", guardPublic, true, s.health},
		{"GET", "/metrics", guardPublic, true, s.serveMetrics},
		{"GET", "/buildinfo", guardPublic, false, s.buildInfo},
		{"GET", "/uploads/limits", guardPublic, false, s.uploadLimits},

		{"POST", "/registry/register", guardOwn, false, s.register},
		{"POST", "/registry/heartbeat", guardOwn, false, s.heartbeat},
		{"POST", "/registry/update-card", guardOwn, false, s.updateCard},
		{"GET", "/registry/discover/{id}", guardOwn, false, s.discover},
		{"GET", "/registry/{id}/peers", guardWorkspace, false, s.listPeers},

		{"POST", "/workspaces", guardAdmin, false, s.createWorkspace},
		{"GET", "/workspaces", guardAdmin, false, s.listWorkspaces},
		{"GET", "/workspaces/{id}", guardPublic, false, s.getWorkspace},
		{"PATCH", "/workspaces/{id}", guardWorkspace, false, s.patchWorkspace},
		{"DELETE", "/workspaces/{id}", guardAdmin, false, s.deleteWorkspace},
		{"POST", "/admin/workspaces/{id}/tokens", guardAdmin, false, s.mintToken},

		{"POST", "/workspaces/{id}/chat/uploads", guardWorkspace, false, s.upload},
		{"GET", "/workspaces/{id}/chat/download", guardWorkspace, false, s.chatDownload},
		{"GET", "/workspaces/{id}/chat-history", guardWorkspace, false, s.chatHistory},
		{"GET", "/workspaces/{id}/pending-uploads/{fid}/content", guardWorkspace, true, s.content},
		{"HEAD", "/workspaces/{id}/pending-uploads/{fid}/content", guardWorkspace, true, s.content},
		{"POST", "/workspaces/{id}/pending-uploads/{fid}/ack", guardWorkspace, true, s.ackUpload},

		{"GET", "/workspaces/{id}/activity", guardWorkspace, false, s.listActivity},
		{"POST", "/workspaces/{id}/activity", guardWorkspace, false, s.postActivity},
		{"POST", "/workspaces/{id}/activity/ack", guardWorkspace, false, s.ackActivity},
		{"POST", "/workspaces/{id}/a2a", guardOwn, false, s.a2a},
		{"POST", "/workspaces/{id}/notify", guardWorkspace, false, s.notify},
		{"GET", "/workspaces/{id}/events/stream", guardWorkspace, false, s.eventStream},
		{"GET", "/ws", guardOwn, false, s.websocket},
	}
}
