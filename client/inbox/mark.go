package inbox

import (
	"time"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// mark is how far the feed has been worked through, by its own numbers and clock.
// A cursor is a row, and rows are pruned; the mark still tells what is old when the
// feed has to begin again.
type mark struct {
	Seq int64     `json:"seq"` // the highest number; 0: none
	At  time.Time `json:"at"`  // the latest time; zero: unknown
}

// covers reports a row that lies before the mark. One with a low number and a
// later time is of a feed that counts anew, such as that of another database, and
// one without a number is never covered.
func (m mark) covers(seq int64, at time.Time) bool {
	return seq > 0 && seq <= m.Seq && !at.IsZero() && !at.After(m.At)
}

// pass moves the mark over a row.
func (m *mark) pass(seq int64, at time.Time) {
	switch {
	case seq <= 0, seq <= m.Seq && !at.After(m.At):
	case seq > m.Seq && m.At.After(at):
		m.Seq = seq // numbers are given out later than times
	default:
		*m = mark{seq, at}
	}
}

// rowTime is when the service made the row, or zero where it does not say.
func rowTime(row wire.Activity) time.Time {
	at, err := time.Parse(time.RFC3339, row.CreatedAt)
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}
