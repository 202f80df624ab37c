package servertest

import "time"

// Sight is something that a watched folder showed.
type Sight struct {
	Name    string
	At      time.Time
	Written bool // a file that was there already was written to; else the name appeared
}
