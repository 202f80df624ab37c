// Package migrations carries the database schema as numbered SQL files and
// applies, checks and rolls it back.
//
// There are two sets. Uploads is the pending_uploads table alone: what a
// program needs that embeds the storage packages. It also applies over a
// database that already has that table with rows in it; the rows stay, as
// inline content, and so does the table's primary key. Service is everything
// else the service keeps: workspaces, tokens, the activity feed and its
// delivery state.
//
// Each set records its versions in a table of its own, so it can live in a
// database that other software migrates, with the same tool or another.
// Changes run under a session-level advisory lock: any number of replicas may
// migrate at once, and all but one find nothing left to do. Such a lock needs a
// direct connection, or a pooler in session mode.
//
// PostgreSQL 15 or newer is required.
package migrations
