package inbox

import "time"

// Points between which a process may be killed. Tests stop there.
const (
	stepTempCreated       = "temp created"
	stepTagJournalled     = "tag journalled"
	stepBytesWritten      = "bytes written"
	stepFileSynced        = "file synced"
	stepPlacingJournalled = "placing journalled"
	stepLinked            = "linked" // where renaming takes two calls
	stepRenamed           = "renamed"
	stepFolderSynced      = "folder synced"
	stepPlacedJournalled  = "placed journalled"
	stepAcked             = "acked"
	stepAckJournalled     = "ack journalled"
	stepRowJournalled     = "row journalled"
	stepCursorJournalled  = "cursor journalled"
	stepDraining          = "draining"
	stepBeforeHandler     = "before handler"
	stepAfterHandler      = "after handler"
	stepHandledJournalled = "handled journalled"
	stepCompactionWritten = "compaction written"
	stepCompactionRenamed = "compaction renamed"
)

// tuning is what tests change.
type tuning struct {
	step         func(string)
	journalLines int           // lines after which the journal is written anew
	journalBytes int64         // bytes after which it is
	firstPause   time.Duration // before something that failed is tried again
	longestPause time.Duration // with half as much more or less
	damagedPause time.Duration // before a file that came damaged is fetched again; doubles
	reportEvery  time.Duration // time between two acks of the feed
	expiry       time.Duration // age at which a file is given up: no service keeps one for longer
	linkOnly     bool          // do without renameat2
}

func newTuning() tuning {
	return tuning{
		step:         func(string) {},
		journalLines: 1000, journalBytes: 1 << 20,
		firstPause: time.Second, longestPause: 40 * time.Second,
		damagedPause: time.Minute, reportEvery: 10 * time.Second, expiry: 7 * 24 * time.Hour,
	}
}
