package handlers

import (
	"math"
	"strings"

	"github.com/molecule-ai/pendinguploads/storage"
)

// rangeKind says what becomes of a Range header.
type rangeKind int

const (
	rangeNone          rangeKind = iota // absent, malformed, of another unit, or several ranges: ignored
	rangeSatisfiable                    // one range that holds at least a byte
	rangeRest                           // one such range without a last byte: all from its first on
	rangeUnsatisfiable                  // one range, outside the content
)

// parseRange reads a Range header (RFC 9110, 14.2) for content of the given size.
// Several ranges are ignored, as a server may: who resumes a transfer wants one,
// and a multipart body would need a second framing of the content.
func parseRange(values []string, size int64) (storage.Range, rangeKind) {
	if len(values) != 1 {
		return storage.Range{}, rangeNone
	}
	unit, set, found := strings.Cut(values[0], "=")
	if !found || !strings.EqualFold(strings.Trim(unit, " \t"), "bytes") {
		return storage.Range{}, rangeNone
	}
	one := ""
	for spec := range strings.SplitSeq(set, ",") {
		spec = strings.Trim(spec, " \t")
		if spec != "" && one != "" {
			return storage.Range{}, rangeNone
		}
		one += spec
	}
	return parseRangeSpec(one, size)
}

// parseRangeSpec reads FIRST-LAST, FIRST- or -SUFFIX.
func parseRangeSpec(spec string, size int64) (storage.Range, rangeKind) {
	from, to, found := strings.Cut(spec, "-")
	if !found || !areDigits(from) || !areDigits(to) || from+to == "" {
		return storage.Range{}, rangeNone
	}
	if from == "" {
		n := min(position(to), size)
		if n == 0 {
			return storage.Range{}, rangeUnsatisfiable
		}
		return storage.Range{Offset: size - n, Length: n}, rangeSatisfiable
	}
	first, last, kind := position(from), size-1, rangeRest
	if to != "" {
		if position(to) < first {
			return storage.Range{}, rangeNone
		}
		last, kind = min(last, position(to)), rangeSatisfiable
	}
	if first >= size {
		return storage.Range{}, rangeUnsatisfiable
	}
	return storage.Range{Offset: first, Length: last - first + 1}, kind
}

func areDigits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}

// position is the number that digits spell. Those beyond int64 all lie behind
// the end of any content.
func position(digits string) int64 {
	n := int64(0)
	for _, c := range []byte(digits) {
		d := int64(c - '0')
		if n > (math.MaxInt64-d)/10 {
			return math.MaxInt64
		}
		n = n*10 + d
	}
	return n
}
