package inbox

import "time"

// The points that a process may be killed at, but for stepLinked, which only
// disks without a better call come by.
var Steps = []string{
	stepRowJournalled, stepTempCreated, stepTagJournalled, stepBytesWritten, stepFileSynced, stepPlacingJournalled, stepRenamed, stepFolderSynced,
	stepPlacedJournalled, stepAcked, stepAckJournalled, stepCursorJournalled, stepDraining, stepBeforeHandler, stepAfterHandler, stepHandledJournalled,
	stepCompactionWritten, stepCompactionRenamed,
}

const (
	StepLinked            = stepLinked
	StepTempCreated       = stepTempCreated
	StepTagJournalled     = stepTagJournalled
	StepBytesWritten      = stepBytesWritten
	StepFileSynced        = stepFileSynced
	StepPlacingJournalled = stepPlacingJournalled
	StepPlacedJournalled  = stepPlacedJournalled
	StepRenamed           = stepRenamed
	StepDraining          = stepDraining
	StepBeforeHandler     = stepBeforeHandler
	StepAfterHandler      = stepAfterHandler
	StepCompactionWritten = stepCompactionWritten
	StepCompactionRenamed = stepCompactionRenamed
)

// OnStep has f called at each of them.
func (in *Inbox) OnStep(f func(string)) { in.step = f }

// CompactAfter has the journal written anew after that many lines.
func (in *Inbox) CompactAfter(lines int) { in.journalLines = lines }

// LinkOnly has files placed as on disks that cannot rename without replacing.
func (in *Inbox) LinkOnly() { in.linkOnly = true }

// Pause sets how long is waited before something that failed is tried again.
func (in *Inbox) Pause(first, longest time.Duration) { in.firstPause, in.longestPause = first, longest }

// DamagedPause sets how long is waited after content came that is not what was
// announced.
func (in *Inbox) DamagedPause(d time.Duration) { in.damagedPause = d }

// ReportEvery sets the time between two acks of the feed.
func (in *Inbox) ReportEvery(d time.Duration) { in.reportEvery = d }

// ExpireAfter sets the age at which files are given up.
func (in *Inbox) ExpireAfter(d time.Duration) { in.expiry = d }

var (
	Rewrite    = rewrite
	FolderName = folderName
	Numbered   = numbered
	TempName   = tempName
	IsTemp     = isTemp
)
