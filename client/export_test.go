package client

import "io"

// Event is an event as the tests compare it.
type Event struct{ ID, Name, Data string }

// ReadEvents reads a whole stream.
func ReadEvents(r io.Reader) (events []Event, err error) {
	reader := newEventReader(r)
	for {
		ev, err := reader.next()
		if err != nil {
			return events, err
		}
		events = append(events, Event{ev.id, ev.name, string(ev.data)})
	}
}

// ForgetStore has the object store tried again, as when its pause is over.
func (c *Client) ForgetStore() { c.store.closed.Store(0) }
