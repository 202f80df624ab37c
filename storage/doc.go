// Package storage is the vocabulary of pending uploads: files that wait for a
// workspace which nobody can call. It holds the Storage interface, ids, records,
// errors, limits and the rules for file names and MIME types; the implementation
// is in storage/staging, removal in storage/sweeper, and storage/storagetest
// holds any implementation to what is promised here.
//
// # Life of a pending upload
//
//	           Put, PutBatch
//	                │   bytes durable, then the row commits
//	                ▼
//	          ┌──────────┐  MarkFetched: FetchedAt := now, any number of times
//	          │   live   │◄─┐
//	          └──────────┘──┘
//	    Ack │            │ ExpiresAt passes
//	        ▼            ▼
//	  ┌─────────┐   ┌─────────┐
//	  │  acked  │   │ expired │   both look absent to Get; an acked one
//	  └─────────┘   └─────────┘   stays readable where the store says so
//	retention │          │ at once
//	  passes  ▼          ▼
//	       ┌────────────────┐
//	       │    sweeping    │     served to nobody any more
//	       └────────────────┘
//	                │   object deleted, then the row
//	                ▼
//	              gone
//
// Ack needs no fetch before it. An acked row that also expires stays until its
// retention has passed and is counted as acked, once.
//
// # Promises
//
// Each sentence is a subtest of storage/storagetest or, where it is about the
// service around the store, of the package named beside it.
//
//  1. A visible row's bytes are durable: the object is complete before the row
//     commits.
//  2. A batch is all or nothing: when PutBatch returns, the rows of all files are
//     committed, or of none; the service commits the feed entries with them
//     (handlers).
//  3. The feed never hides a row behind a reader's cursor (metadata).
//  4. No object is deleted while its row can still be served. Deletion goes
//     object first, row second, so a crash between the two is repaired by the
//     next sweep.
//  5. An object without a row, older than the grace period, is removed by
//     SweepOrphans, and so is an unfinished S3 multipart upload. The grace period
//     is longer than the longest upload may take.
//  6. A file of workspace A is invisible to workspace B.
//  7. Memory is bounded by configuration whatever the load: bodies stream through
//     part buffers under one byte budget; beyond it callers wait, then get
//     ErrBusy. No file that goes to S3 is ever whole in memory, and no file is
//     ever on local disk. Content that goes inline is held until its row is
//     written, inside the same budget.
//  8. Absent, expired and acked look alike to the caller.
//
// # Boundaries
//
// Exactly the per-file cap is accepted, one byte more is not. Exactly
// MaxFilenameBytes bytes of name are accepted. Empty files are refused. Liveness
// and sweeping compare strictly with the database's clock, so a row whose
// ExpiresAt equals it is for that instant neither readable nor swept.
package storage
