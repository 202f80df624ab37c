// Package metadata keeps everything but bytes in PostgreSQL: pending uploads,
// the activity feed, workspaces and their tokens.
//
// The types are independent of each other and share nothing but the database.
// Uploads needs the migration set "uploads" alone, the others need "service" as
// well. All are safe for concurrent use by any number of processes, and hold no
// state between calls.
//
// # The feed
//
// A workspace's feed is numbered by seq: 1, 2, 3 and so on, without gaps. A
// writer takes the row lock on the head of the feed, in the transaction that
// writes, before it allocates a seq, and keeps it until commit. Hence the order
// of seq is the order of commits, a reader that has seen seq n has seen
// everything up to n, and a cursor never steps over a row. created_at is read
// from the clock under the same lock and strictly increases along seq.
//
// # Sweeping
//
// A row is removed in two steps. MarkDue sets sweeping_at on rows that are due;
// from its commit on no method serves them. SweepDue takes marked rows, has
// their objects discarded, and deletes the rows. A crash between the two leaves
// a row that nobody can see and the next SweepDue removes.
//
// # Time
//
// All times are the database's clock, so the clocks of replicas do not matter.
package metadata
