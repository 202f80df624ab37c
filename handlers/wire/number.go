package wire

import (
	"fmt"
	"strconv"
)

// Int32 is a whole number that clients may send with a fraction, as languages
// do that count time in floating point; it is cut off. What is no number, or too
// large for the type, is an error.
type Int32 int32

// Int64 is Int32 with a larger range.
type Int64 int64

// UnmarshalJSON takes any JSON number within the type's range; null is 0.
func (n *Int32) UnmarshalJSON(b []byte) error {
	v, err := whole(string(b), 32)
	*n = Int32(v)
	return err
}

// UnmarshalJSON takes any JSON number within the type's range; null is 0.
func (n *Int64) UnmarshalJSON(b []byte) error {
	v, err := whole(string(b), 64)
	*n = Int64(v)
	return err
}

// whole reads a JSON value. Floating point is the second choice because it
// would round large whole numbers.
func whole(text string, bits int) (int64, error) {
	if text == "null" {
		return 0, nil
	}
	if v, err := strconv.ParseInt(text, 10, bits); err == nil {
		return v, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("%.40q is not a number", text)
	}
	limit := float64(uint64(1) << (bits - 1)) // exact, and itself one too many
	if f <= -limit-1 || f >= limit {
		return 0, fmt.Errorf("number %.40s is out of range", text)
	}
	return int64(f), nil
}
