// Package client is what a program runs to talk to the service as one workspace:
// the receiver behind NAT, or whoever sends files to it.
//
//	c, err := client.New(client.Config{BaseURL: server, Workspace: id, Token: token})
//	for row, err := range c.Follow(ctx, client.FollowConfig{After: cursor}) {
//		// an upload row: c.Fetch, then c.Ack; keep row.ID as the cursor when done
//	}
//
// Package inbox below it does all of that for a folder, and keeps its promises
// when it is killed.
//
// # What is repeated
//
// Calls that may be repeated are, after network errors and after answers that say
// "not now" (408, 425, 429, 5xx), with growing pauses, for Config.Patience; an
// answer's Retry-After is waited for. Register, Fetch, Ack, Limits and Send may
// always be repeated; Upload and Notify only where the service surely did nothing.
// Follow goes on for as long as its context.
//
// # Errors
//
// A refusal is an *Error with the status and the service's text, and is one of the
// sentinels: ErrUnauthorized (401, 403), ErrNotFound (404), ErrCursorGone (410),
// ErrContentMismatch (409), ErrTooLarge (413), ErrBusy (429, 503).
//
// No redirect is followed, so the token reaches no other host.
package client
