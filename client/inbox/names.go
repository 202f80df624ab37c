package inbox

import (
	"strconv"
	"strings"
	"sync"

	"github.com/molecule-ai/pendinguploads/storage"
)

// Names of files that are still being written.
const (
	tempPrefix = ".pendinguploads-"
	tempSuffix = ".part"
)

func tempName(id storage.FileID) string { return tempPrefix + id.String() + tempSuffix }

func isTemp(name string) bool {
	return strings.HasPrefix(name, tempPrefix) && strings.HasSuffix(name, tempSuffix)
}

// folderName is the name that a file should have in the folder: the announced one
// by the service's rule again, kept apart from the names of temporary files and
// from the devices of Windows, because folders are shared and synchronised.
func folderName(announced string) string {
	name := storage.SanitizeFilename(announced)
	if strings.HasPrefix(strings.ToLower(name), tempPrefix) || isDevice(name) {
		name = storage.SanitizeFilename("_" + name)
	}
	return name
}

// isDevice reports the names that Windows gives to devices, whatever follows a
// dot.
func isDevice(name string) bool {
	stem, _, _ := strings.Cut(strings.ToUpper(name), ".")
	switch stem {
	case "CON", "PRN", "AUX", "NUL":
		return true
	}
	return len(stem) == 4 && (strings.HasPrefix(stem, "COM") || strings.HasPrefix(stem, "LPT")) && stem[3] >= '0' && stem[3] <= '9'
}

// longestExt is the longest extension that stays behind the number.
const longestExt = 16

// numbered is the n-th name to try: report.txt, report-2.txt, report-3.txt.
func numbered(name string, n int) string {
	if n < 2 {
		return name
	}
	stem, ext := name, ""
	if dot := strings.LastIndexByte(name, '.'); dot > 0 && len(name)-dot <= longestExt {
		stem, ext = name[:dot], name[dot:]
	}
	tail := "-" + strconv.Itoa(n) + ext
	return stem[:min(len(stem), storage.MaxFilenameBytes-len(tail))] + tail
}

// nameSet is the names that files are being placed under: no two files may be
// placed under one, or a restart could take one for both.
type nameSet struct {
	mu    sync.Mutex
	names map[string]storage.FileID
}

// take reserves a name for a file. Names that differ in case alone are one, as
// they are on many disks.
func (s *nameSet) take(name string, id storage.FileID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	name = strings.ToLower(name)
	if owner, taken := s.names[name]; taken && owner != id {
		return false
	}
	if s.names == nil {
		s.names = map[string]storage.FileID{}
	}
	s.names[name] = id
	return true
}

func (s *nameSet) free(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.names, strings.ToLower(name))
}
