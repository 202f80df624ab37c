package metadata

import (
	"encoding/json"
	"fmt"
)

// Bounds of a JSON document. PostgreSQL's jsonb keeps numbers as decimals and writes
// them out in full, so that 1e308, five bytes, is read back as 309 digits; and
// readers have limits of their own, beyond which they read nothing of a page:
// Python 3.11 converts integers of 4,300 digits at most and nests about 1,000 deep.
const (
	// MaxNumberDigits is the most characters that a number may have as it is sent.
	// Integers of keys of 8,192 bits have 2,467.
	MaxNumberDigits = 4000

	// MaxExponentDigits is the most characters that a number with an exponent may
	// have when it is written out without it. IEEE 754 doubles have 342 at most.
	MaxExponentDigits = 512

	// MaxJSONDepth is the most arrays and objects that may be inside each other.
	MaxJSONDepth = 200

	// MaxJSONGrowth is how many bytes more than twice its size a document may have
	// when its numbers are written out.
	MaxJSONGrowth = 64 << 10
)

// JSONError says why a document is not stored. It is an ErrInvalidJSON.
type JSONError struct {
	Reason string
}

func (e *JSONError) Error() string { return ErrInvalidJSON.Error() + ": " + e.Reason }

// Is makes it an ErrInvalidJSON.
func (e *JSONError) Is(target error) bool { return target == ErrInvalidJSON }

// storedSize is how many bytes a valid document without insignificant spaces has
// when it is read back. *JSONError where it is beyond a bound.
func storedSize(doc json.RawMessage) (int64, error) {
	size := int64(len(doc))
	depth := 0
	for i := 0; i < len(doc); {
		switch c := doc[i]; {
		case c == '"':
			i += stringLen(doc[i:])
			continue
		case c == '-' || c >= '0' && c <= '9':
			n, written := number(doc[i:])
			switch {
			case n > MaxNumberDigits:
				return 0, &JSONError{fmt.Sprintf("a number has more than %d digits", MaxNumberDigits)}
			case written > max(n, MaxExponentDigits):
				return 0, &JSONError{fmt.Sprintf("a number has more than %d digits without its exponent", MaxExponentDigits)}
			}
			size += int64(written - n)
			i += n
			continue
		case c == '[' || c == '{':
			if depth++; depth > MaxJSONDepth {
				return 0, &JSONError{fmt.Sprintf("it is nested more than %d deep", MaxJSONDepth)}
			}
		case c == ']' || c == '}':
			depth--
		}
		i++
	}
	if size > 2*int64(len(doc))+MaxJSONGrowth {
		return 0, &JSONError{"its numbers, written out without exponents, have more than twice its size"}
	}
	return size, nil
}

// stringLen is the length of the string that doc begins with.
func stringLen(doc []byte) int {
	for i := 1; i < len(doc); i++ {
		switch doc[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(doc)
}

// number is the length of the number that doc begins with, and the length that it
// has without an exponent; where that is beyond every bound, one that is too.
func number(doc []byte) (n, written int) {
	digits := func() (count int) {
		for n < len(doc) && doc[n] >= '0' && doc[n] <= '9' {
			n++
			count++
		}
		return count
	}
	sign := 0
	if doc[n] == '-' {
		sign, n = 1, n+1
	}
	whole, fraction, exponent := digits(), 0, 0
	if n < len(doc) && doc[n] == '.' {
		n++
		fraction = digits()
	}
	if n < len(doc) && (doc[n] == 'e' || doc[n] == 'E') {
		n++
		negative := false
		if n < len(doc) && (doc[n] == '+' || doc[n] == '-') {
			negative = doc[n] == '-'
			n++
		}
		for ; n < len(doc) && doc[n] >= '0' && doc[n] <= '9'; n++ {
			exponent = min(10*exponent+int(doc[n]-'0'), 1<<20)
		}
		if negative {
			exponent = -exponent
		}
	}
	written = sign + max(1, whole+exponent)
	if scale := fraction - exponent; scale > 0 {
		written += 1 + scale
	}
	return n, written
}

// card is an agent card as a query argument: nil for none. ErrInvalidJSON.
func card(doc json.RawMessage) (*string, error) {
	doc, err := compact(doc)
	if err != nil {
		return nil, err
	}
	if _, err := storedSize(doc); err != nil {
		return nil, err
	}
	return textOf(doc), nil
}
