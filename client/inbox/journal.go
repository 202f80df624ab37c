package inbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/molecule-ai/pendinguploads/storage"
)

// journalVersion is the format of the lines.
const journalVersion = 1

// journal keeps a state on disk: JSON lines, appended, and now and then written
// anew. A line that could not be written whole is the last one until the file
// has been written anew, so a reader finds damage in the last line alone.
type journal struct {
	path      string
	workspace storage.WorkspaceID
	tuning    tuning

	mu      sync.Mutex // guards what follows; held for writing, not for syncing
	state   state
	file    *os.File
	broken  error // the file must be written anew before it is appended to
	written uint64

	lines, floor     int   // in the file; right after it was written anew
	size, floorBytes int64 // likewise

	syncing sync.Mutex // taken before mu; guards synced, and file against being replaced
	synced  uint64
}

// openJournal reads the journal, or begins one.
func openJournal(path string, ws storage.WorkspaceID, t tuning) (*journal, error) {
	j := &journal{path: path, workspace: ws, tuning: t, state: newState()}
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read journal: %w", err)
	}
	sound, err := j.load(data)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		if err := j.rewrite(); err != nil {
			return nil, fmt.Errorf("begin journal: %w", err)
		}
		return j, nil
	}
	if err := j.open(); err != nil {
		return nil, err
	}
	j.size = sound
	if sound < int64(len(data)) {
		if err := j.file.Truncate(sound); err != nil {
			_ = j.file.Close()
			return nil, fmt.Errorf("cut the torn end off the journal: %w", err)
		}
	}
	return j, nil
}

// load applies the lines and returns how many bytes of them are sound.
func (j *journal) load(data []byte) (int64, error) {
	sound := 0
	for sound < len(data) {
		end := bytes.IndexByte(data[sound:], '\n')
		if end < 0 {
			break // torn
		}
		var l line
		err := json.Unmarshal(data[sound:sound+end], &l)
		if err == nil && j.lines == 0 {
			if err := j.checkHead(l); err != nil {
				return 0, err
			}
		}
		next := sound + end + 1
		if err != nil {
			if next == len(data) {
				break // torn
			}
			return 0, fmt.Errorf("journal %s: line %d is damaged (%w): move the file away to begin anew; files in the folder stay, what the feed still has comes again", j.path, j.lines+1, err)
		}
		j.state.apply(l)
		j.lines++
		sound = next
	}
	if j.lines == 0 && len(data) > 0 {
		return 0, j.checkHead(line{})
	}
	return int64(sound), nil
}

func (j *journal) checkHead(l line) error {
	switch {
	case l.Version == 0:
		return fmt.Errorf("journal %s: it does not begin as a journal does: name another file", j.path)
	case l.Version != journalVersion:
		return fmt.Errorf("journal %s: its format is %d, this program knows %d", j.path, l.Version, journalVersion)
	case l.Workspace == nil || *l.Workspace != j.workspace:
		return fmt.Errorf("journal %s: it is that of workspace %v, want %v: name another journal and folder", j.path, l.Workspace, j.workspace)
	}
	return nil
}

// note applies a line and writes it, without waiting for the disk: what it says
// would be found out again. What could not be written goes with the next commit.
func (j *journal) note(l line) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state.apply(l)
	j.written++
	if j.broken != nil {
		return j.written
	}
	text, err := json.Marshal(l)
	if err == nil {
		_, err = j.file.Write(append(text, '\n'))
	}
	j.lines++
	j.size += int64(len(text)) + 1
	j.broken = err
	return j.written
}

// commit is note, and returns when the line is on the disk. With an error it has
// been applied all the same.
func (j *journal) commit(l line) error { return j.sync(j.note(l)) }

// flush waits until everything noted is on the disk.
func (j *journal) flush() error {
	j.mu.Lock()
	n := j.written
	j.mu.Unlock()
	return j.sync(n)
}

// sync waits until the first n notes are on the disk. One caller syncs for all
// that came meanwhile.
func (j *journal) sync(n uint64) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced >= n {
		return nil
	}
	j.mu.Lock()
	written, broken, file := j.written, j.broken, j.file
	if broken != nil || j.isLarge() {
		err := j.rewrite()
		if err == nil {
			j.synced = written
		}
		if err == nil || j.broken != nil {
			j.mu.Unlock()
			return err
		}
	}
	j.mu.Unlock()
	if err := file.Sync(); err != nil {
		// What the file holds now is anybody's guess.
		j.mu.Lock()
		j.broken = err
		j.mu.Unlock()
		return fmt.Errorf("sync journal: %w", err)
	}
	j.synced = written
	return nil
}

// isLarge reports that the file should be written anew.
func (j *journal) isLarge() bool {
	return j.lines > max(j.tuning.journalLines, 2*j.floor) || j.size > max(j.tuning.journalBytes, 2*j.floorBytes)
}

// rewrite writes the state as a file of its own and puts it in the place of the
// old one. The caller holds both locks, or is alone. After an error the old file
// is appended to as before, unless broken says that it cannot be.
func (j *journal) rewrite() error {
	text, lines, err := j.encode()
	if err != nil {
		return fmt.Errorf("encode journal: %w", err)
	}
	temp := j.path + ".tmp"
	if err := writeNew(temp, text); err != nil {
		return fmt.Errorf("write journal anew: %w", err)
	}
	j.tuning.step(stepCompactionWritten)
	// Some systems do not replace a file that is open.
	if j.file != nil {
		_ = j.file.Close()
		j.file = nil
	}
	j.broken = errors.New("the journal is being replaced")
	if err := os.Rename(temp, j.path); err != nil {
		return fmt.Errorf("replace journal: %w", err)
	}
	j.tuning.step(stepCompactionRenamed)
	if err := syncDir(filepath.Dir(j.path)); err != nil {
		return fmt.Errorf("sync the journal's folder: %w", err)
	}
	if err := j.open(); err != nil {
		return err
	}
	j.broken = nil
	j.lines, j.size = lines, int64(len(text))
	j.floor, j.floorBytes = j.lines, j.size
	return nil
}

func (j *journal) open() (err error) {
	if j.file, err = os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	return nil
}

func (j *journal) encode() (text []byte, lines int, err error) {
	all := append([]line{{Version: journalVersion, Workspace: &j.workspace}}, j.state.lines()...)
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	for _, l := range all {
		if err := encoder.Encode(l); err != nil {
			return nil, 0, err
		}
	}
	return buf.Bytes(), len(all), nil
}

// writeNew makes a file of its own, on the disk when it returns. What stood there
// under its name goes.
func writeNew(name string, text []byte) (err error) {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(name)
		}
	}()
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Sync()
}

func (j *journal) close() error {
	err := j.flush()
	j.syncing.Lock()
	defer j.syncing.Unlock()
	return errors.Join(err, j.file.Close())
}

// view reads the state.
func (j *journal) view(f func(*state)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(&j.state)
}

// fileOf is what is known of a file.
func (j *journal) fileOf(id storage.FileID) (r record, ok bool) {
	j.view(func(s *state) {
		if f := s.files[id]; f != nil {
			r, ok = f.record, true
		}
	})
	return r, ok
}
