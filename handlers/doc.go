// Package handlers is the HTTP face of the service: the routes of the wire
// contract over storage, metadata and the activity feed.
//
// routes.go holds every route on one screen. A request passes, from the
// outside in: metrics and log line, panic recovery, CORS, rate limit, response
// headers, the guard of its route, its handler. A handler returns an error;
// errors.go is the one table from errors to status and wire text, and one
// adapter writes it. No reply is a redirect: the released poller writes the
// body of a 3xx to disk and acknowledges it, so a path that is not clean is a
// 404 before the mux could tidy it up.
package handlers
