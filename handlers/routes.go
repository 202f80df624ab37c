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

// routeFlags are what sets a route apart from the ordinary.
type routeFlags uint8

const (
	plain  routeFlags = 0
	exempt routeFlags = 1 << iota // from the rate limit
	long                          // ends by rules of its own, not by Timeouts.Answer
)

// route is one line of the table.
type route struct {
	method  string
	pattern string // net/http ServeMux form
	guard   guardKind
	flags   routeFlags
	handle  handlerFunc
}

// handlerFunc answers a request or returns the error to answer with; after it
// has written anything it must return nil.
type handlerFunc func(w http.ResponseWriter, r *http.Request) error

// routes is every route of the service.
func (s *Server) routes() []route {
	return []route{
		{"GET", "/health", guardPublic, exempt, s.health},
		{"HEAD", "/health", guardPublic, exempt, s.health},
		{"GET", "/metrics", guardPublic, exempt, s.serveMetrics},
		{"GET", "/buildinfo", guardPublic, plain, s.buildInfo},
		{"GET", "/uploads/limits", guardPublic, plain, s.uploadLimits},

		{"POST", "/registry/register", guardOwn, plain, s.register},
		{"POST", "/registry/heartbeat", guardOwn, plain, s.heartbeat},
		{"POST", "/registry/update-card", guardOwn, plain, s.updateCard},
		{"GET", "/registry/discover/{id}", guardOwn, plain, s.discover},
		{"GET", "/registry/{id}/peers", guardWorkspace, plain, s.listPeers},

		{"POST", "/workspaces", guardAdmin, plain, s.createWorkspace},
		{"GET", "/workspaces", guardAdmin, plain, s.listWorkspaces},
		{"GET", "/workspaces/{id}", guardPublic, plain, s.getWorkspace},
		{"PATCH", "/workspaces/{id}", guardWorkspace, plain, s.patchWorkspace},
		{"DELETE", "/workspaces/{id}", guardAdmin, plain, s.deleteWorkspace},
		{"POST", "/admin/workspaces/{id}/tokens", guardAdmin, plain, s.mintToken},

		{"POST", "/workspaces/{id}/chat/uploads", guardWorkspace, long, s.upload},
		{"POST", "/workspaces/{id}/chat/uploads/direct", guardWorkspace, plain, s.reserveDirect},
		{"POST", "/workspaces/{id}/chat/uploads/direct/commit", guardWorkspace, long, s.commitDirect},
		{"GET", "/workspaces/{id}/chat/download", guardWorkspace, long, s.chatDownload},
		{"GET", "/workspaces/{id}/chat-history", guardWorkspace, plain, s.chatHistory},
		{"GET", "/workspaces/{id}/pending-uploads/{fid}/content", guardWorkspace, exempt | long, s.content},
		{"HEAD", "/workspaces/{id}/pending-uploads/{fid}/content", guardWorkspace, exempt | long, s.content},
		{"GET", "/signed-content/{id}/{fid}", guardOwn, exempt | long, s.signedContent},
		{"HEAD", "/signed-content/{id}/{fid}", guardOwn, exempt | long, s.signedContent},
		{"POST", "/workspaces/{id}/pending-uploads/{fid}/ack", guardWorkspace, exempt, s.ackUpload},

		{"GET", "/workspaces/{id}/activity", guardWorkspace, long, s.listActivity},
		{"GET", "/workspaces/{id}/activity/stream", guardWorkspace, long, s.streamActivity},
		{"POST", "/workspaces/{id}/activity", guardWorkspace, plain, s.postActivity},
		{"POST", "/workspaces/{id}/activity/ack", guardWorkspace, plain, s.ackActivity},
		{"POST", "/workspaces/{id}/a2a", guardOwn, long, s.a2a},
		{"POST", "/workspaces/{id}/notify", guardWorkspace, plain, s.notify},
		{"GET", "/workspaces/{id}/events/stream", guardWorkspace, long, s.eventStream},
		{"GET", "/ws", guardOwn, long, s.websocket},
	}
}
